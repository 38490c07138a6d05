package horizon

import "errors"

var (
	// ErrListen: the address is not a loopback address, or is taken.
	ErrListen = errors.New("horizon: cannot listen")
	// ErrNoPin: the Source knows no such pin.
	ErrNoPin = errors.New("no such pin")
)
