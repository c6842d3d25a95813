/* The GenTL system (TL...): one interface. */
#include "system.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "library.h"

bool sensor_is_set(void) {
    const char *text = getenv("LABCTL_PRODUCER_SENSOR");
    return text && *text;
}

bool sensor_from_environment(long *width, long *height) {
    if (!sensor_is_set()) return true;
    const char *text = getenv("LABCTL_PRODUCER_SENSOR");
    long columns, rows;
    int used = 0;
    if (sscanf(text, "%ldx%ld%n", &columns, &rows, &used) == 2 && !text[used] && columns >= 4 && rows >= 2 &&
        columns <= 16384 && rows <= 16384) {
        *width = columns;
        *height = rows;
        return true;
    }
    fprintf(stderr, "labctl.cti: LABCTL_PRODUCER_SENSOR=%s is no WIDTHxHEIGHT from 4x2 to 16384x16384\n", text);
    return false;
}

GC_ERROR system_info(int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    Dl_info self = {0};
    const char *path = dladdr((void *)(uintptr_t)GCInitLib, &self) && self.dli_fname ? self.dli_fname : "labctl.cti";
    const char *slash = strrchr(path, '/');
    switch (command) {
        case TL_INFO_ID: return answer_text(SYSTEM_ID, type, buffer, size);
        case TL_INFO_VENDOR: return answer_text(VENDOR, type, buffer, size);
        case TL_INFO_MODEL: return answer_text("Virtual lab producer", type, buffer, size);
        case TL_INFO_VERSION: return answer_text(VERSION, type, buffer, size);
        case TL_INFO_TLTYPE: return answer_text(TL_TYPE, type, buffer, size);
        case TL_INFO_NAME: return answer_text(slash ? slash + 1 : path, type, buffer, size);
        case TL_INFO_PATHNAME: return answer_text(path, type, buffer, size);
        case TL_INFO_DISPLAYNAME: return answer_text("labctl virtual lab", type, buffer, size);
        case TL_INFO_CHAR_ENCODING: return answer_int32(1, type, buffer, size); /* UTF-8 */
        case TL_INFO_GENTL_VER_MAJOR: return answer_uint32(1, type, buffer, size);
        case TL_INFO_GENTL_VER_MINOR: return answer_uint32(5, type, buffer, size);
        default: return no_answer("system", command);
    }
}

GC_ERROR interface_info(int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    switch (command) {
        case INTERFACE_INFO_ID: return answer_text(INTERFACE_ID, type, buffer, size);
        case INTERFACE_INFO_DISPLAYNAME: return answer_text("labctl virtual bench", type, buffer, size);
        case INTERFACE_INFO_TLTYPE: return answer_text(TL_TYPE, type, buffer, size);
        default: return no_answer("interface", command);
    }
}

static bool is_system(const void *handle) { return handle && handle == library.system; }

static GC_ERROR check_interface_id(const char *id) {
    if (!id) return fail(GC_ERR_INVALID_PARAMETER, "no interface id given");
    if (strcmp(id, INTERFACE_ID) != 0) return fail(GC_ERR_INVALID_ID, "no interface '%s'; the only one is " INTERFACE_ID, id);
    return GC_ERR_SUCCESS;
}

GC_ERROR TLOpen(TL_HANDLE *system) {
    LIBRARY_LOCKED;
    if (!library.initialised) return no_handle("library");
    if (!system) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    if (library.system) return fail(GC_ERR_RESOURCE_IN_USE, "the system is open");
    *system = library.system = new_handle();
    return GC_ERR_SUCCESS;
}

GC_ERROR TLClose(TL_HANDLE system) {
    LIBRARY_LOCKED;
    if (!is_system(system)) return no_handle("system");
    close_interface();
    library.system = NULL;
    return GC_ERR_SUCCESS;
}

GC_ERROR TLGetInfo(TL_HANDLE system, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    if (!is_system(system)) return no_handle("system");
    return system_info(command, type, buffer, size);
}

GC_ERROR TLGetNumInterfaces(TL_HANDLE system, uint32_t *count) {
    LIBRARY_LOCKED;
    if (!is_system(system)) return no_handle("system");
    if (!count) return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = 1;
    return GC_ERR_SUCCESS;
}

GC_ERROR TLGetInterfaceID(TL_HANDLE system, uint32_t index, char *id, size_t *size) {
    LIBRARY_LOCKED;
    if (!is_system(system)) return no_handle("system");
    if (index != 0) return fail(GC_ERR_INVALID_INDEX, "interface %u asked for, there is only 0", index);
    return answer_text(INTERFACE_ID, NULL, id, size);
}

GC_ERROR TLGetInterfaceInfo(TL_HANDLE system, const char *id, int32_t command, INFO_DATATYPE *type, void *buffer,
                            size_t *size) {
    LIBRARY_LOCKED;
    if (!is_system(system)) return no_handle("system");
    const GC_ERROR found = check_interface_id(id);
    return found ? found : interface_info(command, type, buffer, size);
}

GC_ERROR TLOpenInterface(TL_HANDLE system, const char *id, IF_HANDLE *interface) {
    LIBRARY_LOCKED;
    if (!is_system(system)) return no_handle("system");
    if (!interface) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    const GC_ERROR found = check_interface_id(id);
    if (found) return found;
    if (library.interface) return fail(GC_ERR_RESOURCE_IN_USE, "the interface is open");
    *interface = library.interface = new_handle();
    return GC_ERR_SUCCESS;
}

GC_ERROR TLUpdateInterfaceList(TL_HANDLE system, bool8_t *changed, uint64_t timeout_ms) {
    LIBRARY_LOCKED;
    (void)timeout_ms;
    if (!is_system(system)) return no_handle("system");
    if (changed) *changed = 0;
    return GC_ERR_SUCCESS;
}
