package fuse

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

// Loop is which code reads the kernel's requests.
type Loop string

const (
	// LoopAuto is LoopRing where the kernel has it enabled, else LoopOwn.
	LoopAuto Loop = "auto"
	// LoopOwn is this package's device loop.
	LoopOwn Loop = "own"
	// LoopRing is this package's loop over io_uring.
	LoopRing Loop = "ring"
	// LoopGoFuse is go-fuse's own Server, to compare with. It ends what waits with EINTR at
	// any signal of its caller.
	LoopGoFuse Loop = "gofuse"
)

// Options of a mount. nosuid and nodev always hold, and the kernel checks modes and owners
// (default_permissions) unless it is told not to.
type Options struct {
	ReadOnly      bool
	AllowOther    bool // let other users in
	Unchecked     bool // check no modes and owners, which root would pass; root alone is let in
	NoExec        bool
	NoAtime       bool
	NonEmpty      bool          // mount over a directory that has names
	UID, GID      *uint32       // show these owners instead of the stored ones
	Umask         uint32        // permission bits to hide
	SyncOnClose   bool          // close(2) waits like fsync(2)
	ACL           bool          // POSIX ACLs, and the umask is theirs to replace
	AcceptMissing bool          // go on without local state that is missing; for the daemon, not for the mount
	NoPoll        bool          // never have idle processors poll for work
	FSName        string        // first column of mount(8); "ipfscloud" if empty
	Loop          Loop          // LoopAuto if empty
	Deadline      time.Duration // longest wait of fsync; 60 s if 0
	Log           *slog.Logger
}

const defaultDeadline = 60 * time.Second

func (o *Options) fill() {
	if o.FSName == "" {
		o.FSName = "ipfscloud"
	}
	if o.Loop == "" {
		o.Loop = LoopAuto
	}
	if o.Deadline == 0 {
		o.Deadline = defaultDeadline
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// check reports options that do not go together.
func (o *Options) check() error {
	if o.Unchecked && (o.AllowOther || o.ACL || os.Geteuid() != 0) {
		return fmt.Errorf("mount option \"unchecked\" is for a mount by root, without allow_other and acl: %w", fs.ErrInvalid)
	}
	return nil
}

// ParseOptions reads a list as mount(8) has it, "ro,allow_other,uid=1000", into o.
// An option that is not known is ErrInvalid. What fstab and systemd add for themselves
// is accepted and has no effect.
func ParseOptions(list string, o *Options) error {
	for _, opt := range strings.Split(list, ",") {
		name, value, has := strings.Cut(opt, "=")
		if err := o.set(name, value, has); err != nil {
			return fmt.Errorf("mount option %q: %w", opt, err)
		}
	}
	return nil
}

func (o *Options) set(name, value string, has bool) error {
	number := func(base int) (uint32, error) {
		n, err := strconv.ParseUint(value, base, 32)
		if err != nil || !has {
			return 0, fmt.Errorf("wants a number: %w", fs.ErrInvalid)
		}
		return uint32(n), nil
	}
	var err error
	var n uint32
	switch name {
	case "uid":
		n, err = number(10)
		o.UID = &n
		return err
	case "gid":
		n, err = number(10)
		o.GID = &n
		return err
	case "umask":
		o.Umask, err = number(8)
		o.Umask &= 0o777
		return err
	case "fsname":
		o.FSName = value
		return nil
	case "loop":
		o.Loop = Loop(value)
		switch o.Loop {
		case LoopAuto, LoopOwn, LoopRing, LoopGoFuse:
			return nil
		}
		return fmt.Errorf("loop is auto, own, ring or gofuse: %w", fs.ErrInvalid)
	}
	if has && !strings.HasPrefix(name, "x-") {
		return fmt.Errorf("not known: %w", fs.ErrInvalid)
	}
	switch name {
	case "ro":
		o.ReadOnly = true
	case "rw":
		o.ReadOnly = false
	case "allow_other":
		o.AllowOther = true
	case "noexec":
		o.NoExec = true
	case "exec":
		o.NoExec = false
	case "noatime":
		o.NoAtime = true
	case "nonempty":
		o.NonEmpty = true
	case "sync_on_close":
		o.SyncOnClose = true
	case "acl":
		o.ACL = true
	case "noacl":
		o.ACL = false
	case "unchecked":
		o.Unchecked = true
	case "accept_missing_state":
		o.AcceptMissing = true
	case "nopoll":
		o.NoPoll = true
	case "", "defaults", "default_permissions", "nosuid", "nodev", "auto", "noauto", "user", "nouser", "users",
		"relatime", "atime", "async", "nofail", "_netdev":
	default:
		if !strings.HasPrefix(name, "x-") {
			return fmt.Errorf("not known: %w", fs.ErrInvalid)
		}
	}
	return nil
}
