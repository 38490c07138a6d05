package fs

import (
	"context"
	"time"
)

// Ino is an inode number: a random group of 40 bits drawn per mount and a counter of
// 24 bits. It is never used again. RootIno is the root directory of every vault.
type Ino uint64

// RootIno is the inode number of the drive's top directory, as FUSE wants it.
const RootIno Ino = 1

// File type and permission bits are those of st_mode.
const (
	ModeType    = 0o170000
	ModeDir     = 0o040000
	ModeRegular = 0o100000
	ModeSymlink = 0o120000
	ModeFIFO    = 0o010000
	ModeSocket  = 0o140000
	ModeChar    = 0o020000
	ModeBlock   = 0o060000

	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modePerm   = 0o7777
)

// Limits of the tree.
const (
	NameMax    = 255       // bytes in a name
	SymlinkMax = 4095      // bytes in a link target
	LinkMax    = 65000     // names of one inode
	FileMax    = 1<<62 - 1 // bytes in a file
	XattrMax   = 64 << 10  // bytes in all attributes of one inode
)

// Attr is what stat(2) tells about an inode. Times are nanoseconds since 1970.
type Attr struct {
	Ino    Ino
	Mode   uint32 // type and permission bits
	Nlink  uint32
	UID    uint32
	GID    uint32
	Rdev   uint32
	Size   uint64 // bytes
	Blocks uint64 // allocated space in units of 512 bytes
	Atime  int64
	Mtime  int64
	Ctime  int64
	Btime  int64
}

// Owner is who makes a new inode.
type Owner struct {
	UID, GID uint32
	// Inherit: the directory's default ACL applies. If it has none, Umask is taken from
	// the mode.
	Inherit bool
	Umask   uint32
}

// SetAttr is a change of attributes; nil fields stay.
type SetAttr struct {
	Mode  *uint32 // permission bits only
	UID   *uint32
	GID   *uint32
	Size  *uint64
	Atime *int64
	Mtime *int64
	// KillPriv clears setuid and setgid as a write or chown by an ordinary user does.
	KillPriv bool
	// KillSetgid, with KillPriv, clears setgid also where nobody of the group may execute:
	// the user is not of that group.
	KillSetgid bool
	// Touch changes the time of change even if nothing else does.
	Touch bool
}

// XattrKillSetgid is a flag of Tree.SetXattr besides those of setxattr(2): an access ACL
// that is set takes setgid away.
const XattrKillSetgid = 1 << 16

// DirEntry is one name of a directory.
type DirEntry struct {
	Name string
	Ino  Ino
	Mode uint32 // type bits
}

// Rename flags, as renameat2(2) has them.
const (
	RenameNoReplace = 1
	RenameExchange  = 2
	RenameWhiteout  = 4
)

// Fallocate modes, as fallocate(2) has them.
const (
	FallocKeepSize  = 0x01
	FallocPunchHole = 0x02
	FallocZeroRange = 0x10
)

// Seek modes of Tree.Seek.
const (
	SeekData = 3
	SeekHole = 4
)

// StatFS tells how large the drive is, in bytes and inodes.
type StatFS struct {
	Total, Free  uint64 // bytes; Total is what is used plus what is free
	Files        uint64 // inodes in use
	FilesFree    uint64
	NameMax      uint32
	BlockSize    uint32
	FragmentSize uint32
}

// Durability is what the return of fsync promises.
type Durability string

const (
	// DurabilityLocal: the change survives a power cut on this machine.
	DurabilityLocal Durability = "local"
	// DurabilityIPFS: the change is committed in the IPFS node and synced there.
	DurabilityIPFS Durability = "ipfs"
)

// Identity is what the tree asks of the person who is logged in. auth.Session fits it;
// private keys stay behind it.
type Identity interface {
	// DID of the owner of the vault.
	DID() string
	// Device is the short name of this device in commit paths: lower-case letters and digits.
	Device() string
	// Sign signs msg with this device's key. Every msg begins with a purpose
	// ("ipfscloud/v1/head\x00…"), so that a signature has one meaning only.
	Sign(ctx context.Context, msg []byte) ([]byte, error)
	// JudgeCommit tells whether a device of this DID may have made a commit, signature
	// included. An error means that this cannot be told now, and says nothing of the commit.
	JudgeCommit(ctx context.Context, c CommitClaim) (Verdict, error)
	// MayCommit tells whether this device may commit at a time.
	MayCommit(ctx context.Context, at time.Time) error
	// OpenWrapped opens an HPKE ciphertext (MLKEM768-X25519, HKDF-SHA256, AES-256-GCM;
	// enc and ciphertext joined) that was sealed to this device or to the recovery key.
	OpenWrapped(ctx context.Context, info, sealed []byte) ([]byte, error)
	// Recipients are the HPKE public keys a vault key is wrapped for: each device and
	// the recovery key.
	Recipients(ctx context.Context) ([][]byte, error)
	// Log is the DID document (or its log) that a commit carries, and its version.
	Log(ctx context.Context) (log []byte, version string, err error)
	// TakeLog looks at a log that a commit carries, and keeps it if it is newer.
	TakeLog(ctx context.Context, log []byte) error
	// Notes are what the keyring keeps for the identity; TakeNotes are given them back.
	// nil where it keeps nothing.
	Notes(ctx context.Context) ([]byte, error)
	TakeNotes(ctx context.Context, notes []byte) error
}

// Clock tells the time of a change; the tree never reads another.
type Clock func() time.Time
