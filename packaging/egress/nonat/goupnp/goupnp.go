// Package goupnp stands in for the library of that name, by which libp2p looks for routers.
// It finds none, and sends nothing. It has the original's exported names, as far as libp2p
// uses them.
package goupnp

import (
	"context"
	"errors"
	"net/url"

	"github.com/huin/goupnp/soap"
)

var errOff = errors.New("looking for routers is off")

// MaybeRootDevice is a device that was found.
type MaybeRootDevice struct {
	Root *RootDevice
	Err  error
}

// RootDevice describes a device.
type RootDevice struct {
	URLBase url.URL
	Device  Device
}

// Device has services.
type Device struct{ DeviceType string }

// VisitServices visits none.
func (*Device) VisitServices(func(*Service)) {}

// Service is one of a device.
type Service struct{ ServiceType string }

// NewSOAPClient returns a client that is never called.
func (*Service) NewSOAPClient() *soap.SOAPClient { return nil }

// ServiceClient is embedded in the clients of services.
type ServiceClient struct {
	SOAPClient *soap.SOAPClient
	RootDevice *RootDevice
	Service    *Service
}

// DiscoverDevicesCtx finds nothing.
func DiscoverDevicesCtx(context.Context, string) ([]MaybeRootDevice, error) { return nil, nil }

// DeviceByURLCtx connects to nothing.
func DeviceByURLCtx(context.Context, *url.URL) (*RootDevice, error) { return nil, errOff }
