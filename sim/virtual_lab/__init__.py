"""A lab below the driver libraries: screens, a GenTL camera, SCPI instruments, and the bench whose light joins them."""
