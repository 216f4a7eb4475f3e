package cage

import "golang.org/x/sys/unix"

const arch = unix.AUDIT_ARCH_AARCH64

// refusedHere are system calls that this architecture has beside the others.
var refusedHere []uint32
