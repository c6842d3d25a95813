"""SCPI instruments over VISA: what an instrument can do is a YAML file, how it is talked to is one driver."""
