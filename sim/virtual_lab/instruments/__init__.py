"""SCPI instruments that do not exist: light source, power meter, shutter, power supply, translation stage.

`python -m sim.virtual_lab.instruments CONFIG.json` serves them over raw sockets and HiSLIP until its standard input
ends. What they do to the light stands in an array that the bench reads. The configuration is JSON: `folder` (for the
control socket), `array` (file of the array), `seed`; what is missing has a default.
"""
