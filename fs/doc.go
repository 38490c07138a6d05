// Package fs is the encrypted tree, without a kernel.
//
// Its one job is to keep a POSIX tree in a Store: inodes, extents, directories, commits.
// It imports fs/crypt, which seals, fs/journal, which keeps what is not committed yet, and
// fs/deadline, which bounds what waits. It never speaks to a network or to FUSE, and never
// lets plaintext out other than through the methods of Tree.
//
// # How a change travels
//
// A method of Tree changes the tree in memory and appends the change to the journal
// before it returns. The committer (one goroutine) freezes a view at one journal
// position, seals what changed (children before parents), links the commit in the store,
// and only then trims the journal. Opening a vault reads the newest commit and replays
// the journal's records after it.
//
// # Locks
//
// Tree.mu guards the tree in memory; nobody waits for the store or for a disk sync while
// holding it: an operation that needs a page which is not in memory gives up the lock,
// fetches the page and begins again (see Tree.do). The order is
//
//	committer.run (one commit at a time) → Tree.mu → pageCache.mu, blobCache.mu, journal
//
// # Memory
//
// The kernel's references keep inodes in memory. When those outgrow their part of the
// limit, Restrain asks the kernel to forget what was loaded first; an inode without
// references, loaded children and changes is dropped at once (see Tree.evict). Pages and
// blobs are caches, which share what everything else leaves (see Tree.balance); that of blobs
// takes what is of use (see lru). An inode, and a page, keeps no other page's memory.
package fs
