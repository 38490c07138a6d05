// Package horizon is the local page that says whether a person's data is safe, and the
// metrics that say it to programs.
//
// It is given a Source, which it asks for a State, and knows nothing else: no store, no
// mount, no cluster, no daemon. It listens on loopback only, under a host name that it
// draws anew at each start, and shows nothing to who has not brought a one-time code. It
// changes nothing by itself: it asks the Source to retry or to give up a copy when a
// person has pressed a button, never by GET.
//
// Sessions are kept in memory and end with the process, and the host name with them. If
// they outlived it, another user of the machine who takes the port meanwhile would be
// handed cookies that the next daemon honours.
package horizon
