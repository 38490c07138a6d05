// Package internetgateway2 has the names that libp2p uses. No router is ever found, so none
// of its methods is called.
package internetgateway2

import (
	"context"
	"errors"

	"github.com/huin/goupnp"
)

// What would be searched for.
const (
	URN_WANConnectionDevice_1 = "urn:schemas-upnp-org:device:WANConnectionDevice:1"
	URN_WANConnectionDevice_2 = "urn:schemas-upnp-org:device:WANConnectionDevice:2"
	URN_WANIPConnection_1     = "urn:schemas-upnp-org:service:WANIPConnection:1"
	URN_WANIPConnection_2     = "urn:schemas-upnp-org:service:WANIPConnection:2"
	URN_WANPPPConnection_1    = "urn:schemas-upnp-org:service:WANPPPConnection:1"
)

var errOff = errors.New("asking routers is off")

type client struct{}

func (client) GetNATRSIPStatusCtx(context.Context) (bool, bool, error) { return false, false, errOff }
func (client) GetExternalIPAddress() (string, error)                   { return "", errOff }
func (client) AddPortMappingCtx(context.Context, string, uint16, string, uint16, string, bool, string, uint32) error {
	return errOff
}
func (client) DeletePortMappingCtx(context.Context, string, uint16, string) error { return errOff }

// WANIPConnection1 asks nobody.
type WANIPConnection1 struct {
	goupnp.ServiceClient
	client
}

// WANIPConnection2 asks nobody.
type WANIPConnection2 struct {
	goupnp.ServiceClient
	client
}

// WANPPPConnection1 asks nobody.
type WANPPPConnection1 struct {
	goupnp.ServiceClient
	client
}
