// Package natpmp stands in for the library of that name, by which libp2p asks the router for
// a port. It asks nobody.
package natpmp

import (
	"errors"
	"net"
	"time"
)

var errOff = errors.New("asking the router is off")

// Client asks nobody.
type Client struct{}

// GetExternalAddressResult is an answer that never comes.
type GetExternalAddressResult struct {
	SecondsSinceStartOfEpoc uint32
	ExternalIPAddress       [4]byte
}

// AddPortMappingResult is an answer that never comes.
type AddPortMappingResult struct {
	SecondsSinceStartOfEpoc      uint32
	InternalPort                 uint16
	MappedExternalPort           uint16
	PortMappingLifetimeInSeconds uint32
}

// NewClient returns a client that asks nobody.
func NewClient(net.IP) *Client { return &Client{} }

// NewClientWithTimeout returns a client that asks nobody.
func NewClientWithTimeout(net.IP, time.Duration) *Client { return &Client{} }

// GetExternalAddress fails at once.
func (*Client) GetExternalAddress() (*GetExternalAddressResult, error) { return nil, errOff }

// AddPortMapping fails at once.
func (*Client) AddPortMapping(string, int, int, int) (*AddPortMappingResult, error) {
	return nil, errOff
}
