"""The version, alone in its file, so that the build reads it without importing anything."""

VERSION = "0.1.0"
