/* Walks the whole GenTL API with right and wrong arguments; run under the address sanitizer. Prints "walked" at the
 * end; a check that fails says where and exits with 1. The sources of the producer are linked in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gentl.h"
#include "register_map.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            printf("line %d: %s\n", __LINE__, #condition);                          \
            exit(1);                                                                \
        }                                                                           \
    } while (0)
#define SENSOR 1024
#define OK(call) CHECK((call) == GC_ERR_SUCCESS)
#define IS(call, code) CHECK((call) == (code))

enum {
#define X(name, ...) REG_##name,
    REGISTERS(X)
#undef X
    REG_COUNT
};

static uint64_t address(int reg) { return REGISTER_BASE + (uint64_t)reg * REGISTER_BYTES; }

static GC_ERROR write_integer(PORT_HANDLE port, int reg, int64_t value) {
    size_t size = 8;
    return GCWritePort(port, address(reg), &value, &size);
}

static GC_ERROR write_float(PORT_HANDLE port, int reg, double value) {
    size_t size = 8;
    return GCWritePort(port, address(reg), &value, &size);
}

static int64_t read_integer(PORT_HANDLE port, int reg) {
    int64_t value = -1;
    size_t size = 8;
    OK(GCReadPort(port, address(reg), &value, &size));
    return value;
}

/* Every info command of a module, by the two-call idiom; a size that is one too small is refused. */
#define ASK(function, module)                                                                \
    for (int command = -1; command < 40; command++) {                                        \
        size_t needed = 0;                                                                   \
        INFO_DATATYPE kind;                                                                  \
        if (function(module, command, &kind, NULL, &needed) != GC_ERR_SUCCESS) continue;     \
        char *answer = malloc(needed);                                                       \
        size_t less = needed - 1;                                                            \
        IS(function(module, command, &kind, answer, &less), GC_ERR_BUFFER_TOO_SMALL);        \
        OK(function(module, command, &kind, answer, &needed));                               \
        free(answer);                                                                        \
        IS(function(module, command, &kind, NULL, NULL), GC_ERR_INVALID_PARAMETER);          \
    }

static void *memory[3]; /* announced buffers; freed once the library is closed */

static void read_xml(PORT_HANDLE port) {
    uint32_t count = 0;
    OK(GCGetNumPortURLs(port, &count));
    CHECK(count == 1);
    uint64_t from = 0, bytes = 0;
    size_t size = 8;
    INFO_DATATYPE type;
    OK(GCGetPortURLInfo(port, 0, URL_INFO_FILE_REGISTER_ADDRESS, &type, &from, &size));
    OK(GCGetPortURLInfo(port, 0, URL_INFO_FILE_SIZE, &type, &bytes, &size));
    IS(GCGetPortURLInfo(port, 1, URL_INFO_FILE_SIZE, &type, &bytes, &size), GC_ERR_INVALID_INDEX);
    char *text = malloc(bytes + 1), url[200];
    size = bytes;
    OK(GCReadPort(port, from, text, &size));
    CHECK(memcmp(text, "<?xml", 5) == 0 && memcmp(text + bytes - 2, ">\n", 2) == 0);
    size = bytes + 1;
    IS(GCReadPort(port, from, text, &size), GC_ERR_INVALID_ADDRESS);
    size = SIZE_MAX;
    IS(GCReadPort(port, from + 8, text, &size), GC_ERR_INVALID_ADDRESS);
    free(text);
    size = sizeof url;
    OK(GCGetPortURL(port, url, &size));
    CHECK(strlen(url) + 1 == size);
}

static void walk_ports(PORT_HANDLE port, PORT_HANDLE stream) {
    char value[REGISTER_BYTES];
    for (int reg = 0; reg < REG_COUNT; reg++) {
        size_t size = REGISTER_BYTES;
        if (GCReadPort(port, address(reg), value, &size) == GC_ERR_SUCCESS) continue;
        size = 8;
        const GC_ERROR result = GCReadPort(port, address(reg), value, &size);
        CHECK(result == GC_ERR_SUCCESS || result == GC_ERR_ACCESS_DENIED);
    }
    size_t size = 8;
    IS(GCReadPort(port, address(REG_COUNT), value, &size), GC_ERR_INVALID_ADDRESS);
    IS(GCReadPort(port, 0, value, &size), GC_ERR_INVALID_ADDRESS);
    IS(GCReadPort(port, address(REG_Width) + 1, value, &size), GC_ERR_INVALID_ADDRESS);
    IS(GCReadPort(port, UINT64_MAX, value, &size), GC_ERR_INVALID_ADDRESS);
    size = 4;
    IS(GCReadPort(port, address(REG_Width), value, &size), GC_ERR_INVALID_ADDRESS);
    IS(GCWritePort(port, address(REG_Width), value, &size), GC_ERR_INVALID_ADDRESS);
    IS(write_integer(port, REG_SensorWidth, 8), GC_ERR_ACCESS_DENIED);
    IS(write_integer(port, REG_Width, 7), GC_ERR_INVALID_VALUE);
    IS(write_integer(port, REG_Width, 1 << 20), GC_ERR_INVALID_VALUE);
    IS(write_integer(port, REG_PixelFormat, 0x01080002), GC_ERR_INVALID_VALUE);
    IS(write_float(port, REG_ExposureTime, 1), GC_ERR_INVALID_VALUE);
    IS(write_float(port, REG_ExposureTime, 0.0 / 0.0), GC_ERR_INVALID_VALUE);
    IS(write_integer(port, REG_ChunkSelector, 99), GC_ERR_INVALID_VALUE);
    IS(write_integer(stream, 1, 5), GC_ERR_ACCESS_DENIED);
    memset(value, 'x', sizeof value);
    size = sizeof value;
    OK(GCWritePort(port, address(REG_DeviceUserID), value, &size));
    OK(GCReadPort(port, address(REG_DeviceUserID), value, &size));
    CHECK(strlen(value) == REGISTER_BYTES - 1);
    int64_t width = 0, height = 0;
    PORT_REGISTER_STACK_ENTRY entries[] = {{address(REG_Width), &width, 8}, {address(REG_Height), &height, 8}, {1, &width, 8}};
    size_t count = 2;
    OK(GCReadPortStacked(port, entries, &count));
    CHECK(width == 64 && height == 32);
    count = 3;
    IS(GCReadPortStacked(port, entries, &count), GC_ERR_INVALID_ADDRESS);
    CHECK(count == 2);
    count = 2;
    OK(GCWritePortStacked(port, entries, &count));
}

static EVENT_NEW_BUFFER_DATA wait_for_frame(EVENT_HANDLE event) {
    EVENT_NEW_BUFFER_DATA data = {0};
    size_t size = sizeof data;
    OK(EventGetData(event, &data, &size, 5000));
    return data;
}

static void walk_stream(PORT_HANDLE port, DS_HANDLE stream) {
    EVENT_HANDLE event, other;
    BUFFER_HANDLE buffers[4], extra;
    void *back, *user;
    const size_t payload = (size_t)read_integer(port, REG_PayloadSize);
    CHECK(payload == 64 * 32);
    IS(GCRegisterEvent(stream, EVENT_MODULE, &event), GC_ERR_NOT_IMPLEMENTED);
    OK(GCRegisterEvent(stream, EVENT_NEW_BUFFER, &event));
    IS(GCRegisterEvent(stream, EVENT_NEW_BUFFER, &other), GC_ERR_RESOURCE_IN_USE);
    IS(DSStartAcquisition(stream, 0, GENTL_INFINITE), GC_ERR_INVALID_BUFFER);
    for (int i = 0; i < 3; i++) {
        memory[i] = malloc(payload);
        OK(DSAnnounceBuffer(stream, memory[i], payload, &memory[i], &buffers[i]));
    }
    OK(DSAllocAndAnnounceBuffer(stream, payload / 3, NULL, &buffers[3])); /* too small on purpose */
    IS(DSAnnounceBuffer(stream, memory[0], payload, NULL, &extra), GC_ERR_RESOURCE_IN_USE);
    IS(DSAnnounceBuffer(stream, NULL, payload, NULL, &extra), GC_ERR_INVALID_PARAMETER);
    OK(DSGetBufferID(stream, 3, &extra));
    IS(DSGetBufferID(stream, 4, &extra), GC_ERR_INVALID_INDEX);
    for (int i = 0; i < 4; i++) OK(DSQueueBuffer(stream, buffers[i]));
    IS(DSQueueBuffer(stream, buffers[0]), GC_ERR_INVALID_BUFFER);

    OK(write_float(port, REG_ExposureTime, 100));
    OK(write_integer(port, REG_AcquisitionFrameRateEnable, 0));
    OK(write_integer(port, REG_ChunkModeActive, 1));
    OK(write_integer(port, REG_TLParamsLocked, 1));
    IS(write_integer(port, REG_Width, 32), GC_ERR_ACCESS_DENIED);
    OK(DSStartAcquisition(stream, 0, GENTL_INFINITE));
    IS(DSStartAcquisition(stream, 0, GENTL_INFINITE), GC_ERR_RESOURCE_IN_USE);
    OK(write_integer(port, REG_AcquisitionStart, 1));
    IS(write_integer(port, REG_AcquisitionStart, 1), GC_ERR_BUSY);

    for (int frames = 0; frames < 40; frames++) {
        const EVENT_NEW_BUFFER_DATA data = wait_for_frame(event);
        BUFFER_HANDLE held = NULL;
        size_t size = sizeof held;
        INFO_DATATYPE type;
        OK(EventGetDataInfo(event, &data, sizeof data, EVENT_DATA_ID, &type, &held, &size));
        CHECK(held == data.buffer);
        for (int command = -1; command < 40; command++) {
            char room[64];
            size = sizeof room;
            DSGetBufferInfo(stream, data.buffer, command, &type, room, &size);
        }
        bool8_t incomplete = 9;
        size = 1;
        OK(DSGetBufferInfo(stream, data.buffer, BUFFER_INFO_IS_INCOMPLETE, &type, &incomplete, &size));
        CHECK(incomplete == 1); /* no room for the chunks, or for the image */
        size_t chunks = 8;
        SINGLE_CHUNK_DATA list[8];
        OK(DSGetBufferChunkData(stream, data.buffer, list, &chunks));
        uint32_t parts = 9;
        OK(DSGetNumBufferParts(stream, data.buffer, &parts));
        CHECK(parts == 0);
        IS(DSGetBufferPartInfo(stream, data.buffer, 0, 0, &type, list, &size), GC_ERR_INVALID_INDEX);
        OK(DSQueueBuffer(stream, data.buffer));
    }
    /* Revoking under the camera's hands: whatever the buffer is doing, it is gone afterwards. */
    OK(DSRevokeBuffer(stream, buffers[1], &back, &user));
    CHECK(back == memory[1] && user == &memory[1]);
    free(memory[1]);
    char room[64];
    size_t size = sizeof room;
    INFO_DATATYPE type;
    IS(DSGetBufferInfo(stream, buffers[1], BUFFER_INFO_BASE, &type, room, &size), GC_ERR_INVALID_HANDLE);
    IS(DSQueueBuffer(stream, buffers[1]), GC_ERR_INVALID_HANDLE);
    IS(DSRevokeBuffer(stream, buffers[1], &back, &user), GC_ERR_INVALID_HANDLE);
    for (int i = 0; i < 20; i++) { /* nor does its handle come back with another buffer */
        OK(DSAllocAndAnnounceBuffer(stream, 8, NULL, &extra));
        IS(DSQueueBuffer(stream, buffers[1]), GC_ERR_INVALID_HANDLE);
        OK(DSRevokeBuffer(stream, extra, &back, &user));
    }
    for (int operation = 0; operation < 5; operation++) OK(DSFlushQueue(stream, operation));
    IS(DSFlushQueue(stream, 9), GC_ERR_INVALID_PARAMETER);
    OK(EventKill(event));
    EVENT_NEW_BUFFER_DATA data;
    size = sizeof data;
    IS(EventGetData(event, &data, &size, GENTL_INFINITE), GC_ERR_ABORT);
    size = 3;
    IS(EventGetData(event, &data, &size, 0), GC_ERR_BUFFER_TOO_SMALL);
    OK(write_integer(port, REG_AcquisitionStop, 1));
    OK(write_integer(port, REG_AcquisitionStop, 1));
    OK(write_integer(port, REG_TLParamsLocked, 0));
    OK(write_integer(port, REG_ChunkModeActive, 0));
    OK(DSStopAcquisition(stream, 1));
    OK(EventFlush(event));
    ASK(EventGetInfo, event);
    ASK(DSGetInfo, stream);
    size = sizeof data;
    IS(EventGetData(event, &data, &size, 10), GC_ERR_TIMEOUT);

    /* A finite acquisition into whole buffers. */
    OK(DSFlushQueue(stream, ACQ_QUEUE_ALL_DISCARD));
    OK(DSRevokeBuffer(stream, buffers[3], &back, &user));
    CHECK(back == NULL);
    OK(DSQueueBuffer(stream, buffers[0]));
    OK(DSQueueBuffer(stream, buffers[2]));
    OK(DSStartAcquisition(stream, 0, 1));
    OK(write_integer(port, REG_AcquisitionStart, 1));
    const EVENT_NEW_BUFFER_DATA whole = wait_for_frame(event);
    bool8_t incomplete = 9;
    size = 1;
    OK(DSGetBufferInfo(stream, whole.buffer, BUFFER_INFO_IS_INCOMPLETE, &type, &incomplete, &size));
    CHECK(incomplete == 0);
    const uint8_t *pixels = memory[whole.buffer == buffers[2] ? 2 : 0];
    CHECK(pixels[16] == pixels[0] + 1 && pixels[63 + 64 * 31] == (63 + 3 * 31) / 16);
    size = sizeof data;
    IS(EventGetData(event, &data, &size, 30), GC_ERR_TIMEOUT);
    OK(GCUnregisterEvent(stream, EVENT_NEW_BUFFER));
    IS(EventGetData(event, &data, &size, 0), GC_ERR_INVALID_HANDLE);
    IS(GCUnregisterEvent(stream, EVENT_NEW_BUFFER), GC_ERR_INVALID_PARAMETER);
    OK(GCRegisterEvent(stream, EVENT_NEW_BUFFER, &event));
}

/* Who holds a frame may trigger the next one, however fast. */
static void walk_triggers(PORT_HANDLE port, DS_HANDLE stream) {
    EVENT_HANDLE event;
    OK(GCUnregisterEvent(stream, EVENT_NEW_BUFFER));
    OK(GCRegisterEvent(stream, EVENT_NEW_BUFFER, &event));
    OK(write_integer(port, REG_AcquisitionStop, 1));
    OK(DSStopAcquisition(stream, 0));
    OK(DSFlushQueue(stream, ACQ_QUEUE_ALL_TO_INPUT));
    OK(write_float(port, REG_ExposureTime, 10));
    OK(write_integer(port, REG_TriggerMode, 1));
    OK(DSStartAcquisition(stream, 0, GENTL_INFINITE));
    OK(write_integer(port, REG_AcquisitionStart, 1));
    for (int i = 0; i < 1000; i++) {
        OK(write_integer(port, REG_TriggerSoftware, 1));
        OK(DSQueueBuffer(stream, wait_for_frame(event).buffer));
    }
    CHECK(read_integer(port, REG_StatTriggersMissed) == 0);
    OK(write_integer(port, REG_TriggerMode, 0));
}

/* Leaves the camera writing large frames into the library's own buffers; the caller closes whatever is open. */
static void leave_running(PORT_HANDLE port, DS_HANDLE stream) {
    BUFFER_HANDLE buffer;
    OK(DSStopAcquisition(stream, 0));
    OK(write_integer(port, REG_AcquisitionStop, 1));
    OK(DSFlushQueue(stream, ACQ_QUEUE_ALL_DISCARD));
    OK(write_integer(port, REG_Width, SENSOR));
    OK(write_integer(port, REG_Height, SENSOR));
    OK(write_float(port, REG_ExposureTime, 10));
    for (int i = 0; i < 200; i++) {
        OK(DSAllocAndAnnounceBuffer(stream, (size_t)read_integer(port, REG_PayloadSize), NULL, &buffer));
        OK(DSQueueBuffer(stream, buffer));
    }
    OK(DSStartAcquisition(stream, 0, GENTL_INFINITE));
    OK(write_integer(port, REG_AcquisitionStart, 1));
    usleep(10000);
}

/* Every function with a handle that never was, and that was once. */
static void wrong_handles(void *handle) {
    char room[64], *id = room;
    size_t size = sizeof room;
    INFO_DATATYPE type;
    uint32_t count;
    void *out = NULL, *more;
    bool8_t changed;
    PORT_REGISTER_STACK_ENTRY entry = {0, room, 8};
    SINGLE_CHUNK_DATA chunk;
    const GC_ERROR results[] = {
        TLClose(handle), TLGetInfo(handle, 0, &type, room, &size), TLGetNumInterfaces(handle, &count),
        TLGetInterfaceID(handle, 0, id, &size), TLGetInterfaceInfo(handle, "x", 0, &type, room, &size),
        TLOpenInterface(handle, "labctl-bench", &out), TLUpdateInterfaceList(handle, &changed, 0), IFClose(handle),
        IFGetInfo(handle, 0, &type, room, &size), IFGetNumDevices(handle, &count), IFGetDeviceID(handle, 0, id, &size),
        IFUpdateDeviceList(handle, &changed, 0), IFGetDeviceInfo(handle, "x", 0, &type, room, &size),
        IFOpenDevice(handle, "VLAB0001", DEVICE_ACCESS_EXCLUSIVE, &out), IFGetParentTL(handle, &out),
        DevGetPort(handle, &out), DevGetNumDataStreams(handle, &count), DevGetDataStreamID(handle, 0, id, &size),
        DevOpenDataStream(handle, "x", &out), DevGetInfo(handle, 0, &type, room, &size), DevClose(handle),
        DevGetParentIF(handle, &out), DSAnnounceBuffer(handle, room, 8, NULL, &out),
        DSAllocAndAnnounceBuffer(handle, 8, NULL, &out), DSFlushQueue(handle, 0), DSStartAcquisition(handle, 0, 1),
        DSStopAcquisition(handle, 0), DSGetInfo(handle, 0, &type, room, &size), DSGetBufferID(handle, 0, &out),
        DSClose(handle), DSRevokeBuffer(handle, handle, &out, &more), DSQueueBuffer(handle, handle),
        DSGetBufferInfo(handle, handle, 0, &type, room, &size), DSGetBufferChunkData(handle, handle, &chunk, &size),
        DSGetParentDev(handle, &out), DSGetNumBufferParts(handle, handle, &count),
        DSGetBufferPartInfo(handle, handle, 0, 0, &type, room, &size), GCReadPort(handle, REGISTER_BASE, room, &size),
        GCWritePort(handle, REGISTER_BASE, room, &size), GCReadPortStacked(handle, &entry, &(size_t){1}),
        GCWritePortStacked(handle, &entry, &(size_t){1}), GCGetPortURL(handle, room, &size),
        GCGetNumPortURLs(handle, &count), GCGetPortURLInfo(handle, 0, 0, &type, room, &size),
        GCGetPortInfo(handle, 0, &type, room, &size), GCRegisterEvent(handle, 1, &out), GCUnregisterEvent(handle, 1),
        EventGetData(handle, room, &size, 0), EventGetDataInfo(handle, room, 16, 0, &type, room, &size),
        EventGetInfo(handle, 0, &type, room, &size), EventFlush(handle), EventKill(handle),
    };
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        if (results[i] != GC_ERR_INVALID_HANDLE && results[i] != GC_ERR_NOT_INITIALIZED) {
            printf("call %zu with a wrong handle gave %d\n", i, results[i]);
            exit(1);
        }
    GC_ERROR code = 0;
    size = 1;
    IS(GCGetLastError(&code, room, &size), GC_ERR_BUFFER_TOO_SMALL);
    size = sizeof room;
    OK(GCGetLastError(&code, room, &size));
    CHECK(code == results[sizeof results / sizeof *results - 1] && strlen(room) > 5);
}

int main(void) {
    TL_HANDLE system, second;
    IF_HANDLE interface;
    DEV_HANDLE device, again;
    PORT_HANDLE port;
    DS_HANDLE stream, earlier = NULL;
    uint32_t count;
    char id[64];
    setenv("LABCTL_PRODUCER_SENSOR", "1024x1024", 1);
    wrong_handles(NULL);
    setenv("LABCTL_PRODUCER_CAMERAS", "many", 1);
    IS(GCInitLib(), GC_ERR_INVALID_VALUE);
    setenv("LABCTL_PRODUCER_CAMERAS", "3", 1);
    for (int round = 0; round < 3; round++) {
        OK(GCInitLib());
        IS(GCInitLib(), GC_ERR_RESOURCE_IN_USE);
        OK(TLOpen(&system));
        IS(TLOpen(&second), GC_ERR_RESOURCE_IN_USE);
        size_t size = sizeof id;
        OK(TLGetNumInterfaces(system, &count));
        OK(TLGetInterfaceID(system, 0, id, &size));
        IS(TLGetInterfaceID(system, 1, id, &size), GC_ERR_INVALID_INDEX);
        IS(TLOpenInterface(system, "none", &interface), GC_ERR_INVALID_ID);
        IS(TLOpenInterface(system, NULL, &interface), GC_ERR_INVALID_PARAMETER);
        OK(TLOpenInterface(system, id, &interface));
        OK(IFUpdateDeviceList(interface, NULL, 0));
        OK(IFGetNumDevices(interface, &count));
        CHECK(count == 3);
        size = sizeof id;
        IS(IFGetDeviceID(interface, 3, id, &size), GC_ERR_INVALID_INDEX);
        OK(IFGetDeviceID(interface, 1, id, &size));
        IS(IFOpenDevice(interface, "VLAB0009", DEVICE_ACCESS_EXCLUSIVE, &device), GC_ERR_INVALID_ID);
        IS(IFOpenDevice(interface, id, DEVICE_ACCESS_NONE, &device), GC_ERR_INVALID_PARAMETER);
        OK(IFOpenDevice(interface, id, DEVICE_ACCESS_EXCLUSIVE, &device));
        IS(IFOpenDevice(interface, id, DEVICE_ACCESS_EXCLUSIVE, &again), GC_ERR_RESOURCE_IN_USE);
        OK(DevGetPort(device, &port));
        size = sizeof id;
        OK(DevGetDataStreamID(device, 0, id, &size));
        IS(DevOpenDataStream(device, "none", &stream), GC_ERR_INVALID_ID);
        OK(DevOpenDataStream(device, id, &stream));
        IS(DevOpenDataStream(device, id, &stream), GC_ERR_RESOURCE_IN_USE);
        ASK(TLGetInfo, system);
        ASK(IFGetInfo, interface);
        ASK(DevGetInfo, device);
        void *modules[] = {system, interface, device, stream, port};
        for (int i = 0; i < 5; i++) {
            ASK(GCGetPortInfo, modules[i]);
            read_xml(modules[i]);
        }
        wrong_handles((void *)0xdeadbeef);
        if (round > 0) wrong_handles(earlier);
        earlier = stream;
        OK(write_integer(port, REG_Width, 64));
        OK(write_integer(port, REG_Height, 32));
        walk_ports(port, stream);
        walk_stream(port, stream);
        void *parent;
        OK(DSGetParentDev(stream, &parent));
        CHECK(parent == device);
        OK(DevGetParentIF(device, &parent));
        CHECK(parent == interface);
        OK(IFGetParentTL(interface, &parent));
        CHECK(parent == system);
        walk_triggers(port, stream);
        leave_running(port, stream);
        if (round == 0) { OK(DSClose(stream)); OK(DevClose(device)); OK(IFClose(interface)); OK(TLClose(system)); }
        if (round == 1) OK(DevClose(device));
        OK(GCCloseLib());
        free(memory[0]);
        free(memory[2]);
        wrong_handles(stream);
        wrong_handles(device);
        wrong_handles(port);
    }
    printf("walked\n");
    return 0;
}
