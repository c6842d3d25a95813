"""Cameras that do not exist, below the driver: a GenTL 1.5 producer in C (`source/`) that any GenTL consumer can load.

`build.build_producer()` compiles it and gives the path of `labctl.cti`. Its nodes are the table in
`camera_features.py`; `pattern.pattern_dn` tells what a frame of the test pattern holds; `control.inject_fault` makes a
camera fail from outside. All state is per process and begins anew with GCInitLib (harvesters: with a new Harvester).

Frames. Ids begin at 0 with each AcquisitionStart; a frame that finds no buffer, or that a fault drops, uses up its id.
The timestamp is CLOCK_MONOTONIC in ns at the start of the exposure. A new ExposureTime, Gain or BlackLevel counts from
the next exposure on, or ExposurePipelineDelay exposures later. After an exposure the sensor is read out, which takes
as long as writing a frame took last. A software trigger while the camera is busy is lost and counted
(StatTriggersMissed); who holds a frame may trigger the next one. ExposureAuto and GainAuto steer the mean towards
DN12 = 1800; on the test pattern, which no exposure changes, they run to their limits.

Environment, read by GCInitLib (the LABCTL_BENCH_... when a camera is opened, the control file all the time):

- LABCTL_PRODUCER_CAMERAS: number of cameras, 1..8, default 2. Serial numbers VLAB0001, VLAB0002, ...
- LABCTL_PRODUCER_SENSOR: WIDTHxHEIGHT of all sensors. Default: the bench's size, without a bench 1920x1200. A larger
  sensor than the bench's is dark (DN 0) to the right and below, of a smaller one the bench's left upper part is seen.
- LABCTL_PRODUCER_OLD_NAMES=1: the last camera speaks as before the SFNC: ExposureTimeAbs, GainRaw (0.1 dB),
  AcquisitionFrameRateAbs.
- LABCTL_PRODUCER_FAULTS: path of the control file of faults.
- LABCTL_BENCH_SOCKET, LABCTL_BENCH_MEMORY: the bench that renders what the sensors see; without, the test pattern.

Faults, as nodes of the camera and as lines `serial name value` of the control file, which are taken out as they act:

- FaultDropNext n, FaultIncompleteNext n (half filled), FaultDuplicateId n (repeats the id of the frame before it).
- FaultLateNext ms: the next frame is handed over so much later. FaultStallSeconds s: no exposure begins or ends.
- FaultNodeHangSeconds s: the next access to a node takes so long, and holds whatever lock its caller holds.
- FaultLostSeconds s, FaultLost 1: the camera is gone, out of the list of cameras, and every node access is an I/O
  error, for a time, or until the control file says FaultLost 0. An open camera stays dead until it is opened again. In
  the control file these lines stay as long as they hold (FaultLostSeconds as FaultLostUntil), for all processes.

Messages to and from the bench, over a Unix SOCK_SEQPACKET socket, one connection per open camera, all little-endian and
packed. Hello: {"LBH1", u32 camera} -> {"LBH1", u32 status (0: well), u32 width, u32 height, u32 bits (12), u32 slots,
u64 slot_bytes}. At the start of an exposure: {"LBX1", u32 camera, u64 frame_id, u64 start_ns, u64 exposure_ns,
f64 gain_db, f64 black_level_dn, u32 slot (frame_id mod slots), u32 0}; when it is over and rendered the bench answers
{"LBX1", u32 status, u64 frame_id, u64 offset, u32 width, u32 height}, and at `offset` of the memory file lies the whole
sensor, uint16, row by row. A refusal, or no answer 2 s after the exposure, makes an incomplete frame. When an answer is
late, wrong, or no longer wanted (AcquisitionStop), the camera closes the connection and opens another one for its next
exposure, so that no answer can be taken for another frame's; a bench must bear that.
"""
