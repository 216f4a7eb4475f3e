package api

// DeathTrailer is the trailer of a run's stream that tells what its kernel died of, where
// it ended by that.
const DeathTrailer = "X-Kernel-Death"

// Death is what a kernel died of.
type Death string

// What kernels die of.
const (
	DeathOutOfMemory Death = "out_of_memory"
	DeathBySignal    Death = "signal"
	DeathByExit      Death = "exit"
	DeathUnknown     Death = "unknown"
)

// Deaths are all of them.
var Deaths = []Death{DeathOutOfMemory, DeathBySignal, DeathByExit, DeathUnknown}
