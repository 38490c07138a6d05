package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
)

// Ports of local fleets lie below the range from which the kernel takes the ports of
// outgoing connections, so that none of those can be in the way later.
const (
	firstPort, lastPort = 20000, 32000
	portTries           = 200
)

// realPorts are those of a node on a machine of its own.
func realPorts() Ports { return Ports{Swarm: 4001, Cluster: 9096, API: 9094} }

// holder keeps ports until the programs they are for are started.
type holder struct{ held []net.Listener }

// take holds a port at an address.
func (h *holder) take(addr string, port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	h.held = append(h.held, l)
	return nil
}

func (h *holder) release() error {
	var err error
	for _, l := range h.held {
		err = errors.Join(err, l.Close())
	}
	h.held = nil
	return err
}

// settle gives a node ports that are free, and holds them: those it has if it can. Fixed
// ones, which others were told of, are never changed.
func (h *holder) settle(p *Ports, at *place, fixed bool) error {
	for _, port := range p.list() {
		addr := at.Listen
		if port == &p.API {
			addr = at.APIListen
		}
		if *port != 0 {
			err := h.take(addr, *port)
			if err == nil {
				continue
			}
			if fixed {
				return fmt.Errorf("%w: port %d: %w", ErrConfig, *port, err)
			}
		}
		var err error
		if *port, err = h.any(addr); err != nil {
			return err
		}
	}
	return nil
}

func (h *holder) any(addr string) (int, error) {
	var err error
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if err = h.take(addr, port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("%w: no free port at %s: %w", ErrConfig, addr, err)
}

// free reports whether nobody listens on any of a node's ports.
func (p Ports) free(at *place) bool {
	var h holder
	err := h.settle(&p, at, true)
	return errors.Join(err, h.release()) == nil
}

// dialable is the address at which a program of this machine reaches what listens on addr.
func dialable(addr string) string {
	if a, err := netip.ParseAddr(addr); err == nil && a.IsUnspecified() {
		if a.Is4() {
			return "127.0.0.1"
		}
		return "::1"
	}
	return addr
}
