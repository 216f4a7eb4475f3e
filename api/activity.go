package api

// Activity tells whether something happens in a sandbox.
type Activity struct {
	Busy        bool    `json:"busy"`         // code runs or waits to, packages are installed, a notebook runs or a terminal is open
	IdleSeconds float64 `json:"idle_seconds"` // since the last of that, or the last output of a process; 0 while it is busy
}
