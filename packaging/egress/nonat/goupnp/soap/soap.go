// Package soap has the one name that libp2p uses.
package soap

// SOAPClient calls nothing.
type SOAPClient struct{}
