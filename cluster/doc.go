// Package cluster keeps copies of CIDs on the peers of an IPFS Cluster, and tells the
// truth about them.
//
// Its one job: given a set of CIDs that are wanted (Keeper.Want), to have each pinned on
// as many peers as the policy says, to see to it that this stays so, and to say at any
// time what each peer reports (Keeper.Pins). A copy counts when an allocated peer reports
// it as pinned. What was asked for, or accepted, does not count, nor does a peer that
// does not answer.
//
// Client speaks to the cluster's REST API: several endpoints of one cluster, each call
// with a deadline and with a limit to what it reads. It is not the client that IPFS
// Cluster comes with: that one knows neither an authority of one's own nor tokens, its
// unix sockets ignore contexts, and it reads answers of any size into memory. Options go
// out through IPFS Cluster's own types; a test holds our requests against those of its
// client. Answers are read leniently: an address of a kind that we do not know must not
// hide a peer.
//
// # What it costs
//
// Calls per minute to one endpoint, with the intervals of KeeperConfig's defaults and
// everything held:
//
//	6    which peers are alive: from the memory of the peer asked
//	6    the newest pin, of its allocated peers; each second while it is copied
//	6    40 settled pins each, of their allocated peers: 10,000 come round in 42 minutes
//	3    what peers say of themselves, and who sees whom: of all peers
//	2    free space: from the memory of the peer asked
//	0.2  the list of all pins: read from the disk of the peer asked, 5 MB for 10,000 pins
//
// This does not grow with the number of pins; a test counts it. Of 10,000 pins at a real
// peer, on two busy cores, it was 23 calls and 0.9 MB a minute, 0.25 % of a core here and
// 2.8 % at the peer, which takes 1.5 % by itself (TestCostOfManyPins). What is not settled is
// asked for 40 at a time, at most once a second: after a start 10,000 pins are known in
// about five minutes. When a peer falls silent, all its copies stop to count without a
// call; when it comes back, they count when it has reported each of them again, which
// takes as long as a start. Pins are made one after the other: to bring 10,000 of them to
// a cluster that has none takes hours, however little they hold.
//
// # How soon it is true
//
// With the defaults, of the newest pin, and with IPFS Cluster's pings two seconds apart:
// a peer that died, a repo that was emptied, or a pin that somebody else removed is told
// of after at most WatchEvery (10 s); a peer or an IPFS node that hangs after 10 s and the
// 15 s that the cluster gives a peer to answer; an endpoint that hangs after PeersEvery
// (10 s) and 5 s, and all of them, however many there are, after PeersEvery and 12 s. Another pin whose copy is lost while its peer stays up is found when its
// turn comes. Until then Pin.AsOf says how old the answer is.
//
// # Who has not heard of a pin
//
// One peer writes a pin into the pin set, and the others fetch that change from it. One that
// cannot fetch goes on to answer, and reports the pin as unpinned; no more changes told to
// other peers help it. After half a minute of that the Keeper tells it itself, by the
// endpoint that says it is this peer. Without such an endpoint, or if it does not help, it
// is tried again after a pause that grows to RetryMax, and one pin in 15 seconds at most.
// Pin.Reason names the peer meanwhile.
//
// The peer allocates what it is told among the peers that it sees. It is asked for as many as
// have the pin, and refuses if it does not see so many; that it chose others is logged, and
// left: once it hears of the others again, its choice or theirs stays, and either is enough
// copies. It is not taken out there, because each peer that hears of a removal unpins what it
// has, even if the pin stays in the pin set by another version. For the same reason a pin
// that was given up, and is wanted again when such a peer hears of the others, may be unpinned
// on all of them for a moment; they report that, and recover it.
//
// What such a peer was told and is given up is taken out by its endpoint too. If that fails, or
// the Keeper was started since, the peer keeps it until it hears of the others, and brings it
// back into the pin set then: the next list shows it, and it goes again.
//
// The package imports nothing of this project and no IPFS library beyond IPFS Cluster's
// API types. It never reads or moves a block, and knows nothing of what a CID is the root
// of.
package cluster

import "errors"

var (
	// ErrConfig is a setting that cannot work.
	ErrConfig = errors.New("bad configuration of Egress")
	// ErrUnavailable says that no endpoint answered in time.
	ErrUnavailable = errors.New("no answer from Egress")
	// ErrRefused says that an endpoint answers, and does not let us in.
	ErrRefused = errors.New("credentials refused by Egress")
	// ErrAnswer is an answer that makes no sense, is cut short, or is too long.
	ErrAnswer = errors.New("unusable answer from Egress")
	// ErrCluster is an error that the cluster reports, in its words.
	ErrCluster = errors.New("error reported by Egress")
	// ErrNotFound says that the cluster does not have what was asked for.
	ErrNotFound = errors.New("not in Egress")
	// ErrShort says that there are fewer copies than somebody waits for.
	ErrShort = errors.New("too few copies")
	// ErrNotWanted says that a CID is not, or no longer, in the wanted set.
	ErrNotWanted = errors.New("not among the wanted pins")
	// ErrNewest is the answer to who wants to give up the newest pin.
	ErrNewest = errors.New("this is the newest: giving it up would leave nothing")
)
