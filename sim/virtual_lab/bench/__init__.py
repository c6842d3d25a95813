"""The optical bench as a process: it reads screens, lamp and shutter, casts the light, and hands frames to a camera."""
