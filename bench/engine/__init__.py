"""Where runs execute: `inline` in this process, `local` in isolated processes on this machine."""
