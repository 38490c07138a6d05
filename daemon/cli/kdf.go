package cli

import (
	"flag"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth"
)

// kdfFlags say what a guess of a new passphrase shall cost, and each login with it.
type kdfFlags struct{ passes, memory uint }

// flags adds them; where tells of which commands of several they are.
func (k *kdfFlags) flags(f *flag.FlagSet, where string) {
	f.UintVar(&k.passes, "kdf-passes", 0, where+"`N` passes of Argon2id for the new passphrase, 1 to 16 (default 3)")
	f.UintVar(&k.memory, "kdf-memory", 0, where+"Argon2id fills `MIB`, 64 to 1024 (default 256): less for a small machine")
}

func (k *kdfFlags) given() bool { return k.passes+k.memory > 0 }

// check refuses what no KDF can be made of. What is too little or too much, auth refuses.
func (k *kdfFlags) check() error {
	if k.passes > 1<<16 || k.memory > 1<<16 {
		return fmt.Errorf("%w: that is no work for Argon2id", errUsage)
	}
	return nil
}

// kdf is the zero value, which stands for the defaults, unless a flag says otherwise.
func (k *kdfFlags) kdf() auth.KDF {
	if !k.given() {
		return auth.KDF{}
	}
	out := auth.KDF{Time: 3, Memory: 256 << 10, Threads: 4}
	if k.passes > 0 {
		out.Time = uint32(k.passes)
	}
	if k.memory > 0 {
		out.Memory = uint32(k.memory) << 10
	}
	return out
}
