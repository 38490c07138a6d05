package auth

import (
	"fmt"
	"runtime/debug"

	"golang.org/x/crypto/argon2"
)

// KDF are the parameters of Argon2id for a passphrase. The zero value stands for the
// defaults: 3 passes, 256 MiB, 4 lanes. Accepted are 1 to 16 passes, 64 MiB to 1 GiB,
// 1 to 16 lanes.
type KDF struct {
	Time    uint32 `json:"time"`    // passes
	Memory  uint32 `json:"memory"`  // KiB
	Threads uint8  `json:"threads"` // lanes
}

const (
	kdfMaxTime    = 16
	kdfMinMemory  = 64 << 10 // KiB
	kdfMaxMemory  = 1 << 20
	kdfMaxThreads = 16
)

func (k KDF) orDefault() KDF {
	if k == (KDF{}) {
		return KDF{Time: 3, Memory: 256 << 10, Threads: 4}
	}
	return k
}

// work is what a guess costs, in memory that is filled.
func (k KDF) work() uint64 { return uint64(k.Time) * uint64(k.Memory) }

// check bounds the parameters, of a file above all: less would be guessed too easily, and
// more would let the file exhaust the machine before anything of it is verified.
func (k KDF) check() error {
	if k.Time < 1 || k.Time > kdfMaxTime || k.Memory < kdfMinMemory || k.Memory > kdfMaxMemory ||
		k.Threads < 1 || k.Threads > kdfMaxThreads {
		return fmt.Errorf("Argon2id with %d passes, %d KiB, %d lanes is out of bounds", k.Time, k.Memory, k.Threads)
	}
	return nil
}

// derive takes time and memory as its parameters say.
func (k KDF) derive(passphrase, salt []byte) (*secret, error) {
	key, err := moveSecret(argon2.IDKey(passphrase, salt, k.Time, k.Memory, k.Threads, masterSize))
	// The key follows from what Argon2 leaves in its memory. This gives it back to the
	// system, which clears it.
	debug.FreeOSMemory()
	return key, err
}
