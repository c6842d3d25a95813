/* GenApi XML texts; made by camera_xml.py, without the closing NUL in their length. */
#ifndef LABCTL_XML_FILES_H
#define LABCTL_XML_FILES_H

extern const char system_xml[], interface_xml[], device_xml[], stream_xml[], camera_xml[], camera_old_names_xml[];
extern const unsigned long system_xml_bytes, interface_xml_bytes, device_xml_bytes, stream_xml_bytes, camera_xml_bytes,
    camera_old_names_xml_bytes;

#endif
