package journal

// foreseen: a sync that is expected to follow upon so few records finds the disk at work
// on them, for their caller still prepares it. More would be many small writes in the
// place of a few large ones.
const foreseen = 4

// habit tells when the next sync will come. Programs sync in patterns: a database with a
// rollback journal after 11 records, 1, 2, and again. So it is expected after as many
// records as came last time after a sync of as many as the latest.
type habit struct {
	after [32]uint8 // how many records a sync had that followed upon one of so many
	last  uint8
}

// synced notes a sync of n records.
func (h *habit) synced(n uint64) {
	k := uint8(min(n, uint64(len(h.after)-1)))
	h.after[h.last], h.last = k, k
}

// expects reports whether a sync is expected now that n records are there since the last.
func (h *habit) expects(n uint64) bool {
	return n <= foreseen && n == uint64(h.after[h.last])
}
