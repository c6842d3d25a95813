/* GenTL 1.5 as this producer speaks it: constants, packed structures and all 57 prototypes, for 64-bit Linux. */
#ifndef LABCTL_GENTL_H
#define LABCTL_GENTL_H

#include <stddef.h>
#include <stdint.h>

#define GC_API __attribute__((visibility("default")))

typedef int32_t GC_ERROR;
typedef int32_t INFO_DATATYPE;
typedef uint8_t bool8_t;
typedef void *TL_HANDLE, *IF_HANDLE, *DEV_HANDLE, *DS_HANDLE, *PORT_HANDLE, *BUFFER_HANDLE, *EVENT_HANDLE;
typedef void *EVENTSRC_HANDLE;

#define GENTL_INFINITE UINT64_MAX

enum {
    GC_ERR_SUCCESS = 0, GC_ERR_ERROR = -1001, GC_ERR_NOT_INITIALIZED = -1002, GC_ERR_NOT_IMPLEMENTED = -1003,
    GC_ERR_RESOURCE_IN_USE = -1004, GC_ERR_ACCESS_DENIED = -1005, GC_ERR_INVALID_HANDLE = -1006,
    GC_ERR_INVALID_ID = -1007, GC_ERR_NO_DATA = -1008, GC_ERR_INVALID_PARAMETER = -1009, GC_ERR_IO = -1010,
    GC_ERR_TIMEOUT = -1011, GC_ERR_ABORT = -1012, GC_ERR_INVALID_BUFFER = -1013, GC_ERR_NOT_AVAILABLE = -1014,
    GC_ERR_INVALID_ADDRESS = -1015, GC_ERR_BUFFER_TOO_SMALL = -1016, GC_ERR_INVALID_INDEX = -1017,
    GC_ERR_PARSING_CHUNK_DATA = -1018, GC_ERR_INVALID_VALUE = -1019, GC_ERR_RESOURCE_EXHAUSTED = -1020,
    GC_ERR_OUT_OF_MEMORY = -1021, GC_ERR_BUSY = -1022,
};

enum {
    INFO_DATATYPE_UNKNOWN, INFO_DATATYPE_STRING, INFO_DATATYPE_STRINGLIST, INFO_DATATYPE_INT16, INFO_DATATYPE_UINT16,
    INFO_DATATYPE_INT32, INFO_DATATYPE_UINT32, INFO_DATATYPE_INT64, INFO_DATATYPE_UINT64, INFO_DATATYPE_FLOAT64,
    INFO_DATATYPE_PTR, INFO_DATATYPE_BOOL8, INFO_DATATYPE_SIZET, INFO_DATATYPE_BUFFER,
};

enum {
    TL_INFO_ID, TL_INFO_VENDOR, TL_INFO_MODEL, TL_INFO_VERSION, TL_INFO_TLTYPE, TL_INFO_NAME, TL_INFO_PATHNAME,
    TL_INFO_DISPLAYNAME, TL_INFO_CHAR_ENCODING, TL_INFO_GENTL_VER_MAJOR, TL_INFO_GENTL_VER_MINOR,
};

enum { INTERFACE_INFO_ID, INTERFACE_INFO_DISPLAYNAME, INTERFACE_INFO_TLTYPE };

enum {
    DEVICE_INFO_ID, DEVICE_INFO_VENDOR, DEVICE_INFO_MODEL, DEVICE_INFO_TLTYPE, DEVICE_INFO_DISPLAYNAME,
    DEVICE_INFO_ACCESS_STATUS, DEVICE_INFO_USER_DEFINED_NAME, DEVICE_INFO_SERIAL_NUMBER, DEVICE_INFO_VERSION,
    DEVICE_INFO_TIMESTAMP_FREQUENCY,
};

enum {
    DEVICE_ACCESS_UNKNOWN, DEVICE_ACCESS_NONE, DEVICE_ACCESS_READONLY, DEVICE_ACCESS_CONTROL, DEVICE_ACCESS_EXCLUSIVE,
};

enum {
    DEVICE_ACCESS_STATUS_UNKNOWN, DEVICE_ACCESS_STATUS_READWRITE, DEVICE_ACCESS_STATUS_READONLY,
    DEVICE_ACCESS_STATUS_NOACCESS, DEVICE_ACCESS_STATUS_BUSY, DEVICE_ACCESS_STATUS_OPEN_READWRITE,
};

enum {
    STREAM_INFO_ID, STREAM_INFO_NUM_DELIVERED, STREAM_INFO_NUM_UNDERRUN, STREAM_INFO_NUM_ANNOUNCED,
    STREAM_INFO_NUM_QUEUED, STREAM_INFO_NUM_AWAIT_DELIVERY, STREAM_INFO_NUM_STARTED, STREAM_INFO_PAYLOAD_SIZE,
    STREAM_INFO_IS_GRABBING, STREAM_INFO_DEFINES_PAYLOADSIZE, STREAM_INFO_TLTYPE, STREAM_INFO_NUM_CHUNKS_MAX,
    STREAM_INFO_BUF_ANNOUNCE_MIN, STREAM_INFO_BUF_ALIGNMENT,
};

enum {
    BUFFER_INFO_BASE, BUFFER_INFO_SIZE, BUFFER_INFO_USER_PTR, BUFFER_INFO_TIMESTAMP, BUFFER_INFO_NEW_DATA,
    BUFFER_INFO_IS_QUEUED, BUFFER_INFO_IS_ACQUIRING, BUFFER_INFO_IS_INCOMPLETE, BUFFER_INFO_TLTYPE,
    BUFFER_INFO_SIZE_FILLED, BUFFER_INFO_WIDTH, BUFFER_INFO_HEIGHT, BUFFER_INFO_XOFFSET, BUFFER_INFO_YOFFSET,
    BUFFER_INFO_XPADDING, BUFFER_INFO_YPADDING, BUFFER_INFO_FRAMEID, BUFFER_INFO_IMAGEPRESENT,
    BUFFER_INFO_IMAGEOFFSET, BUFFER_INFO_PAYLOADTYPE, BUFFER_INFO_PIXELFORMAT, BUFFER_INFO_PIXELFORMAT_NAMESPACE,
    BUFFER_INFO_DELIVERED_IMAGEHEIGHT, BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE, BUFFER_INFO_CHUNKLAYOUTID,
    BUFFER_INFO_FILENAME, BUFFER_INFO_PIXEL_ENDIANNESS, BUFFER_INFO_DATA_SIZE, BUFFER_INFO_TIMESTAMP_NS,
    BUFFER_INFO_DATA_LARGER_THAN_BUFFER, BUFFER_INFO_CONTAINS_CHUNKDATA,
};

enum { PAYLOAD_TYPE_IMAGE = 1, PIXELFORMAT_NAMESPACE_PFNC_32BIT = 4, PIXELENDIANNESS_LITTLE = 1 };

enum {
    PORT_INFO_ID, PORT_INFO_VENDOR, PORT_INFO_MODEL, PORT_INFO_TLTYPE, PORT_INFO_MODULE, PORT_INFO_LITTLE_ENDIAN,
    PORT_INFO_BIG_ENDIAN, PORT_INFO_ACCESS_READ, PORT_INFO_ACCESS_WRITE, PORT_INFO_ACCESS_NA, PORT_INFO_ACCESS_NI,
    PORT_INFO_VERSION, PORT_INFO_PORTNAME,
};

enum {
    URL_INFO_URL, URL_INFO_SCHEMA_VER_MAJOR, URL_INFO_SCHEMA_VER_MINOR, URL_INFO_FILE_VER_MAJOR,
    URL_INFO_FILE_VER_MINOR, URL_INFO_FILE_VER_SUBMINOR, URL_INFO_FILE_SHA1_HASH, URL_INFO_FILE_REGISTER_ADDRESS,
    URL_INFO_FILE_SIZE, URL_INFO_SCHEME, URL_INFO_FILENAME,
};

enum { EVENT_ERROR, EVENT_NEW_BUFFER, EVENT_FEATURE_INVALIDATE, EVENT_FEATURE_CHANGE, EVENT_REMOTE_DEVICE, EVENT_MODULE };
enum { EVENT_EVENT_TYPE, EVENT_NUM_IN_QUEUE, EVENT_NUM_FIRED, EVENT_SIZE_MAX, EVENT_INFO_DATA_SIZE_MAX };
enum { EVENT_DATA_ID, EVENT_DATA_VALUE, EVENT_DATA_NUMID };

enum {
    ACQ_QUEUE_INPUT_TO_OUTPUT, ACQ_QUEUE_OUTPUT_DISCARD, ACQ_QUEUE_ALL_TO_INPUT, ACQ_QUEUE_UNQUEUED_TO_INPUT,
    ACQ_QUEUE_ALL_DISCARD,
};

#pragma pack(push, 1)
typedef struct { BUFFER_HANDLE buffer; void *user_pointer; } EVENT_NEW_BUFFER_DATA;
typedef struct { uint64_t id; ptrdiff_t offset; size_t length; } SINGLE_CHUNK_DATA;
typedef struct { uint64_t address; void *buffer; size_t size; } PORT_REGISTER_STACK_ENTRY;
#pragma pack(pop)

/* Library and ports */
GC_API GC_ERROR GCInitLib(void);
GC_API GC_ERROR GCCloseLib(void);
GC_API GC_ERROR GCGetInfo(int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_API GC_ERROR GCGetLastError(GC_ERROR *code, char *text, size_t *size);
GC_API GC_ERROR GCReadPort(PORT_HANDLE port, uint64_t address, void *buffer, size_t *size);
GC_API GC_ERROR GCWritePort(PORT_HANDLE port, uint64_t address, const void *buffer, size_t *size);
GC_API GC_ERROR GCReadPortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count);
GC_API GC_ERROR GCWritePortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count);
GC_API GC_ERROR GCGetPortURL(PORT_HANDLE port, char *url, size_t *size);
GC_API GC_ERROR GCGetNumPortURLs(PORT_HANDLE port, uint32_t *count);
GC_API GC_ERROR GCGetPortURLInfo(PORT_HANDLE port, uint32_t index, int32_t command, INFO_DATATYPE *type, void *buffer,
                                 size_t *size);
GC_API GC_ERROR GCGetPortInfo(PORT_HANDLE port, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);

/* Events */
GC_API GC_ERROR GCRegisterEvent(EVENTSRC_HANDLE source, int32_t event_type, EVENT_HANDLE *event);
GC_API GC_ERROR GCUnregisterEvent(EVENTSRC_HANDLE source, int32_t event_type);
GC_API GC_ERROR EventGetData(EVENT_HANDLE event, void *buffer, size_t *size, uint64_t timeout_ms);
GC_API GC_ERROR EventGetDataInfo(EVENT_HANDLE event, const void *data, size_t data_size, int32_t command,
                                 INFO_DATATYPE *type, void *buffer, size_t *size);
GC_API GC_ERROR EventGetInfo(EVENT_HANDLE event, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_API GC_ERROR EventFlush(EVENT_HANDLE event);
GC_API GC_ERROR EventKill(EVENT_HANDLE event);

/* System */
GC_API GC_ERROR TLOpen(TL_HANDLE *system);
GC_API GC_ERROR TLClose(TL_HANDLE system);
GC_API GC_ERROR TLGetInfo(TL_HANDLE system, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_API GC_ERROR TLGetNumInterfaces(TL_HANDLE system, uint32_t *count);
GC_API GC_ERROR TLGetInterfaceID(TL_HANDLE system, uint32_t index, char *id, size_t *size);
GC_API GC_ERROR TLGetInterfaceInfo(TL_HANDLE system, const char *id, int32_t command, INFO_DATATYPE *type,
                                   void *buffer, size_t *size);
GC_API GC_ERROR TLOpenInterface(TL_HANDLE system, const char *id, IF_HANDLE *interface);
GC_API GC_ERROR TLUpdateInterfaceList(TL_HANDLE system, bool8_t *changed, uint64_t timeout_ms);

/* Interface and device */
GC_API GC_ERROR IFClose(IF_HANDLE interface);
GC_API GC_ERROR IFGetInfo(IF_HANDLE interface, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_API GC_ERROR IFGetNumDevices(IF_HANDLE interface, uint32_t *count);
GC_API GC_ERROR IFGetDeviceID(IF_HANDLE interface, uint32_t index, char *id, size_t *size);
GC_API GC_ERROR IFUpdateDeviceList(IF_HANDLE interface, bool8_t *changed, uint64_t timeout_ms);
GC_API GC_ERROR IFGetDeviceInfo(IF_HANDLE interface, const char *id, int32_t command, INFO_DATATYPE *type,
                                void *buffer, size_t *size);
GC_API GC_ERROR IFOpenDevice(IF_HANDLE interface, const char *id, int32_t access, DEV_HANDLE *device);
GC_API GC_ERROR IFGetParentTL(IF_HANDLE interface, TL_HANDLE *system);
GC_API GC_ERROR DevGetPort(DEV_HANDLE device, PORT_HANDLE *port);
GC_API GC_ERROR DevGetNumDataStreams(DEV_HANDLE device, uint32_t *count);
GC_API GC_ERROR DevGetDataStreamID(DEV_HANDLE device, uint32_t index, char *id, size_t *size);
GC_API GC_ERROR DevOpenDataStream(DEV_HANDLE device, const char *id, DS_HANDLE *stream);
GC_API GC_ERROR DevGetInfo(DEV_HANDLE device, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_API GC_ERROR DevClose(DEV_HANDLE device);
GC_API GC_ERROR DevGetParentIF(DEV_HANDLE device, IF_HANDLE *interface);

/* Data stream */
GC_API GC_ERROR DSAnnounceBuffer(DS_HANDLE stream, void *memory, size_t size, void *user, BUFFER_HANDLE *buffer);
GC_API GC_ERROR DSAllocAndAnnounceBuffer(DS_HANDLE stream, size_t size, void *user, BUFFER_HANDLE *buffer);
GC_API GC_ERROR DSFlushQueue(DS_HANDLE stream, int32_t operation);
GC_API GC_ERROR DSStartAcquisition(DS_HANDLE stream, int32_t flags, uint64_t count);
GC_API GC_ERROR DSStopAcquisition(DS_HANDLE stream, int32_t flags);
GC_API GC_ERROR DSGetInfo(DS_HANDLE stream, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_API GC_ERROR DSGetBufferID(DS_HANDLE stream, uint32_t index, BUFFER_HANDLE *buffer);
GC_API GC_ERROR DSClose(DS_HANDLE stream);
GC_API GC_ERROR DSRevokeBuffer(DS_HANDLE stream, BUFFER_HANDLE buffer, void **memory, void **user);
GC_API GC_ERROR DSQueueBuffer(DS_HANDLE stream, BUFFER_HANDLE buffer);
GC_API GC_ERROR DSGetBufferInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, int32_t command, INFO_DATATYPE *type,
                                void *out, size_t *size);
GC_API GC_ERROR DSGetBufferChunkData(DS_HANDLE stream, BUFFER_HANDLE buffer, SINGLE_CHUNK_DATA *chunks, size_t *count);
GC_API GC_ERROR DSGetParentDev(DS_HANDLE stream, DEV_HANDLE *device);
GC_API GC_ERROR DSGetNumBufferParts(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t *count);
GC_API GC_ERROR DSGetBufferPartInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t part, int32_t command,
                                    INFO_DATATYPE *type, void *out, size_t *size);

#endif
