// Package horizon is the local page that says whether a person's data is safe, and the
// metrics that say it to programs.
//
// It is given a Source, which it asks for a State, and knows nothing else: no store, no
// mount, no cluster, no daemon. It listens on loopback only, at both addresses of it or not at
// all, under a host name that it draws anew at each start, and shows nothing to anyone who
// has not brought a one-time code. It
// changes nothing by itself: it asks the Source to retry or to give up a copy when a
// person has pressed a button, never by GET.
//
// Other users of the machine are kept out four times over. They cannot take the address
// where a browser would look next, for both are ours. A code, and the cookie that it was
// exchanged for, are good only over connections of the users whom the code was made for,
// as the kernel tells; so whoever relays what a browser says gets nothing by it. The file
// that opens a browser has no code: it has a key, wants a proof that the server knows it,
// and then gives a proof of its own. And connections are counted by user, so that none can
// take all of them.
//
// Sessions are kept in memory and end with the process, and the host name with them. If
// they outlived it, another user of the machine who takes the port meanwhile would be
// handed cookies that the next daemon honours.
package horizon
