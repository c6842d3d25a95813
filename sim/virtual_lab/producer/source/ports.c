/* Ports (GCReadPort, ...): the camera's own, and one per module of the host's side.
 *
 * Every port holds registers at REGISTER_BASE and its GenApi XML at XML_ADDRESS. A register of a host module is the
 * answer to one info command: its index is the command. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "answers.h"
#include "library.h"
#include "system.h"
#include "xml_files.h"

#define XML_ADDRESS 0x1000000u

enum port_kind { PORT_SYSTEM, PORT_INTERFACE, PORT_DEVICE, PORT_STREAM, PORT_CAMERA };

struct port {
    enum port_kind kind;
    struct camera *camera;
    const char *module, *name, *file, *xml;
    size_t xml_bytes;
};

static bool find_port(const void *handle, struct port *port) {
    struct camera *camera = NULL;
    if (handle && handle == library.system)
        *port = (struct port){PORT_SYSTEM, NULL, "TLSystem", "TLPort", "system.xml", system_xml, system_xml_bytes};
    else if (handle && handle == library.interface)
        *port = (struct port){PORT_INTERFACE, NULL, "TLInterface", "InterfacePort", "interface.xml", interface_xml,
                              interface_xml_bytes};
    else if ((camera = camera_of_device(handle)))
        *port = (struct port){PORT_DEVICE, camera, "TLDevice", "DevicePort", "device.xml", device_xml, device_xml_bytes};
    else if ((camera = camera_of_stream(handle)))
        *port = (struct port){PORT_STREAM, camera, "TLDataStream", "StreamPort", "stream.xml", stream_xml,
                              stream_xml_bytes};
    else if ((camera = camera_of_port(handle)) && camera->old_names)
        *port = (struct port){PORT_CAMERA, camera, "Device", "Device", "camera_old_names.xml", camera_old_names_xml,
                              camera_old_names_xml_bytes};
    else if (camera)
        *port = (struct port){PORT_CAMERA, camera, "Device", "Device", "camera.xml", camera_xml, camera_xml_bytes};
    else
        return false;
    return true;
}

/* The fault FaultNodeHangSeconds: whoever touches a node next waits. The camera itself goes on. */
static void hang_if_told(struct camera *camera) {
    const double seconds = camera->faults.hang_s;
    if (seconds <= 0) return;
    camera->faults.hang_s = 0;
    pthread_mutex_unlock(&library_mutex);
    const struct timespec wait = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
    pthread_mutex_lock(&library_mutex);
}

/* Whether the camera behind a port can be reached; a lost camera answers nothing until it is opened again. */
static GC_ERROR reach(const void *handle, struct port *port) {
    if (port->kind != PORT_CAMERA) return GC_ERR_SUCCESS;
    struct camera *camera = port->camera;
    faults_poll(camera, true);
    hang_if_told(camera);
    if (camera_of_port(handle) != camera) return no_handle("port"); /* closed while the access hung */
    if (camera_is_lost(camera) || camera->gone) return fail(GC_ERR_IO, "camera %s does not answer", camera->serial);
    return GC_ERR_SUCCESS;
}

static GC_ERROR module_answer(const struct port *port, int32_t command, INFO_DATATYPE *type, void *buffer,
                              size_t *size) {
    switch (port->kind) {
        case PORT_SYSTEM: return system_info(command, type, buffer, size);
        case PORT_INTERFACE: return interface_info(command, type, buffer, size);
        case PORT_DEVICE: return device_info(port->camera, command, type, buffer, size);
        default: return stream_info(port->camera, command, type, buffer, size);
    }
}

static GC_ERROR read_module_register(const struct port *port, uint64_t address, void *buffer, size_t *size) {
    const uint64_t index = (address - REGISTER_BASE) / REGISTER_BYTES;
    if (address < REGISTER_BASE || (address - REGISTER_BASE) % REGISTER_BYTES || index > 63 || *size > REGISTER_BYTES)
        return fail(GC_ERR_INVALID_ADDRESS, "no register of %zu bytes at 0x%llx", *size, (unsigned long long)address);
    union { char text[1024]; uint8_t bytes[8]; } value = {0};
    size_t bytes = sizeof value.text;
    INFO_DATATYPE type;
    const GC_ERROR result = module_answer(port, (int32_t)index, &type, value.text, &bytes);
    if (result) return fail(GC_ERR_INVALID_ADDRESS, "no register at 0x%llx", (unsigned long long)address);
    memcpy(buffer, &value, *size);
    return GC_ERR_SUCCESS;
}

static GC_ERROR read_port(const void *handle, uint64_t address, void *buffer, size_t *size) {
    struct port port;
    if (!find_port(handle, &port)) return no_handle("port");
    if (!buffer || !size) return fail(GC_ERR_INVALID_PARAMETER, "no place for the data");
    const GC_ERROR reached = reach(handle, &port);
    if (reached) return reached;
    if (address >= XML_ADDRESS) {
        const uint64_t from = address - XML_ADDRESS;
        if (from >= port.xml_bytes || *size > port.xml_bytes - from)
            return fail(GC_ERR_INVALID_ADDRESS, "0x%llx + %zu is beyond the XML", (unsigned long long)address, *size);
        memcpy(buffer, port.xml + from, *size);
        return GC_ERR_SUCCESS;
    }
    if (port.kind == PORT_CAMERA) return read_register(port.camera, address, buffer, size);
    return read_module_register(&port, address, buffer, size);
}

static GC_ERROR write_port(const void *handle, uint64_t address, const void *buffer, size_t *size) {
    struct port port;
    if (!find_port(handle, &port)) return no_handle("port");
    if (!buffer || !size) return fail(GC_ERR_INVALID_PARAMETER, "no data");
    const GC_ERROR reached = reach(handle, &port);
    if (reached) return reached;
    if (port.kind != PORT_CAMERA) return fail(GC_ERR_ACCESS_DENIED, "the port of a host module is read-only");
    return write_register(port.camera, address, buffer, size);
}

GC_ERROR GCReadPort(PORT_HANDLE port, uint64_t address, void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    return read_port(port, address, buffer, size);
}

GC_ERROR GCWritePort(PORT_HANDLE port, uint64_t address, const void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    return write_port(port, address, buffer, size);
}

/* Both stacked calls stop at the first entry that fails and say how many went well. */
GC_ERROR GCReadPortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count) {
    LIBRARY_LOCKED;
    if (!entries || !count) return fail(GC_ERR_INVALID_PARAMETER, "no entries");
    const size_t asked = *count;
    for (*count = 0; *count < asked; ++*count) {
        size_t size = entries[*count].size;
        const GC_ERROR result = read_port(port, entries[*count].address, entries[*count].buffer, &size);
        if (result) return result;
    }
    return GC_ERR_SUCCESS;
}

GC_ERROR GCWritePortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count) {
    LIBRARY_LOCKED;
    if (!entries || !count) return fail(GC_ERR_INVALID_PARAMETER, "no entries");
    const size_t asked = *count;
    for (*count = 0; *count < asked; ++*count) {
        size_t size = entries[*count].size;
        const GC_ERROR result = write_port(port, entries[*count].address, entries[*count].buffer, &size);
        if (result) return result;
    }
    return GC_ERR_SUCCESS;
}

static void port_url(const struct port *port, char url[128]) {
    snprintf(url, 128, "Local:///%s;%X;%zX?SchemaVersion=1.1.0", port->file, XML_ADDRESS, port->xml_bytes);
}

GC_ERROR GCGetPortURL(PORT_HANDLE handle, char *url, size_t *size) {
    LIBRARY_LOCKED;
    struct port port;
    if (!find_port(handle, &port)) return no_handle("port");
    char own[128];
    port_url(&port, own);
    return answer_text(own, NULL, url, size);
}

GC_ERROR GCGetNumPortURLs(PORT_HANDLE handle, uint32_t *count) {
    LIBRARY_LOCKED;
    struct port port;
    if (!find_port(handle, &port)) return no_handle("port");
    if (!count) return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = 1;
    return GC_ERR_SUCCESS;
}

GC_ERROR GCGetPortURLInfo(PORT_HANDLE handle, uint32_t index, int32_t command, INFO_DATATYPE *type, void *buffer,
                          size_t *size) {
    LIBRARY_LOCKED;
    struct port port;
    if (!find_port(handle, &port)) return no_handle("port");
    if (index != 0) return fail(GC_ERR_INVALID_INDEX, "URL %u asked for, there is only 0", index);
    char own[128];
    port_url(&port, own);
    switch (command) {
        case URL_INFO_URL: return answer_text(own, type, buffer, size);
        case URL_INFO_SCHEMA_VER_MAJOR: return answer_int32(1, type, buffer, size);
        case URL_INFO_SCHEMA_VER_MINOR: return answer_int32(1, type, buffer, size);
        case URL_INFO_FILE_VER_MAJOR: return answer_int32(1, type, buffer, size);
        case URL_INFO_FILE_VER_MINOR: return answer_int32(0, type, buffer, size);
        case URL_INFO_FILE_VER_SUBMINOR: return answer_int32(0, type, buffer, size);
        case URL_INFO_FILE_REGISTER_ADDRESS: return answer_uint64(XML_ADDRESS, type, buffer, size);
        case URL_INFO_FILE_SIZE: return answer_uint64(port.xml_bytes, type, buffer, size);
        case URL_INFO_SCHEME: return answer_int32(0, type, buffer, size); /* local */
        case URL_INFO_FILENAME: return answer_text(port.file, type, buffer, size);
        default: return no_answer("URL", command);
    }
}

GC_ERROR GCGetPortInfo(PORT_HANDLE handle, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    struct port port;
    if (!find_port(handle, &port)) return no_handle("port");
    const char *id = port.camera                    ? port.camera->serial
                     : port.kind == PORT_INTERFACE ? INTERFACE_ID
                                                    : SYSTEM_ID;
    switch (command) {
        case PORT_INFO_ID: return answer_text(id, type, buffer, size);
        case PORT_INFO_VENDOR: return answer_text(VENDOR, type, buffer, size);
        case PORT_INFO_MODEL: return answer_text("Virtual lab producer", type, buffer, size);
        case PORT_INFO_TLTYPE: return answer_text(TL_TYPE, type, buffer, size);
        case PORT_INFO_MODULE: return answer_text(port.module, type, buffer, size);
        case PORT_INFO_LITTLE_ENDIAN: return answer_bool(true, type, buffer, size);
        case PORT_INFO_BIG_ENDIAN: return answer_bool(false, type, buffer, size);
        case PORT_INFO_ACCESS_READ: return answer_bool(true, type, buffer, size);
        case PORT_INFO_ACCESS_WRITE: return answer_bool(port.kind == PORT_CAMERA, type, buffer, size);
        case PORT_INFO_ACCESS_NA: return answer_bool(false, type, buffer, size);
        case PORT_INFO_ACCESS_NI: return answer_bool(false, type, buffer, size);
        case PORT_INFO_VERSION: return answer_text(VERSION, type, buffer, size);
        case PORT_INFO_PORTNAME: return answer_text(port.name, type, buffer, size);
        default: return no_answer("port", command);
    }
}
