"""A session with any devices, recorded as it happens and played back as devices.

`record: FOLDER` in a rig file records every opening of the rig into `FOLDER/0001`, `FOLDER/0002` ...; the `rig.yaml`
there opens the recording in place of the devices.
"""
