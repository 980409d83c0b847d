package control

// Kinds of a Forward, by the letters of their flags.
const (
	ForwardLocal   = "L"
	ForwardReverse = "R"
	ForwardSocks   = "D"
)

// Forward is a forward to add or to cancel.
type Forward struct {
	Kind string `json:"kind"` // L, R or D
	Spec string `json:"spec"` // as the flag takes it
}

// Added is the answer to a forward that was added.
type Added struct {
	Address string `json:"address"` // where it listens
}

// TakeOver asks a remote to hand its listeners over to another process.
type TakeOver struct {
	PublicKey string `json:"public_key"` // of that process; it must be the same
	PID       int    `json:"pid"`        // likewise
}

// Error is an answer other than success. It is worded for people.
type Error struct {
	What   string `json:"error"`
	Hint   string `json:"hint,omitempty"`   // what to do
	Status int    `json:"status,omitempty"` // the exit status of the command that asked
}

func (e *Error) Error() string { return e.What }
