// Package ssdp stands in for the library of that name, by which libp2p looks for routers. It
// finds none, and sends nothing.
package ssdp

// All is what would be searched for.
const All = "ssdp:all"

// Service is what would be found.
type Service struct{ Type, USN, Location, Server string }

// Option is of a search.
type Option func()

// Search finds nothing.
func Search(string, int, string, ...Option) ([]Service, error) { return nil, nil }
