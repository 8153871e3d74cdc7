"""The version of starman, in a file of its own so that the build can read it without imports."""

VERSION = "0.2.0"
