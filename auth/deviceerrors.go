package auth

import (
	"errors"
	"fmt"
)

// What an operation on devices can fail with besides.
var (
	// ErrScope: the DID document does not let this device do that, or not any more. It is an
	// ErrRefused.
	ErrScope = fmt.Errorf("the DID document does not allow it to this device: %w", ErrRefused)
	// ErrEnrols: the keystore has the keys of a device that waits for its approval.
	ErrEnrols = errors.New("this device waits for its approval on another one")
	// ErrCode: the code is another one: what was carried over is not what was shown.
	ErrCode = fmt.Errorf("the code does not match: %w", ErrRefused)
	// ErrNoDevice: the DID document lists no such device.
	ErrNoDevice = errors.New("no such device in the DID document")
)
