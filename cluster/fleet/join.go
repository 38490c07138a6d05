package fleet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Join makes, in a directory that holds no fleet yet, a node that belongs to the fleet a
// token is of. Up then starts it.
//
// Of c it takes all but Peers; Name is what people will see. The node holds copies from
// then on. Unless the fleet trusts all, its changes of the pin set count elsewhere only
// after its id was given to Trust there.
func Join(ctx context.Context, token string, c Config) error {
	t, err := ParseToken(token)
	if err != nil {
		return err
	}
	if t.Local() && !loopback(c.Listen) && c.Listen != "" {
		return fmt.Errorf("%w: the fleet it is of can be reached on its own machine alone", ErrToken)
	}
	if c.Peers != 0 && c.Peers != 1 {
		return fmt.Errorf("%w: a machine joins with one node", ErrConfig)
	}
	c.Peers = 1
	f, err := open(ctx, &c, t)
	if err != nil {
		return err
	}
	return f.close()
}

// join makes the state of a fleet that is a part of another.
func (t *Token) join() *state {
	s := newState(t.Cluster)
	s.TrustAll, s.Trusted, s.Remote = t.TrustAll, t.Trusted, t.Nodes
	return s
}

// Trust makes peers, by their ids, ones whose changes of the pin set count for the nodes
// in a directory. The cluster peers of a running fleet are restarted for it, one after
// the other.
func Trust(ctx context.Context, dir string, ids ...string) error {
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	c, _, err := asking(dir)
	if err == nil {
		defer c.http.CloseIdleConnections()
		var none struct{}
		return c.postFor(ctx, "/trust?ids="+strings.Join(ids, ","), &none, trustTime)
	} else if !errors.Is(err, ErrNotRunning) {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	s, _, err := readState(dir)
	if err == nil {
		s.trust(ids)
		err = writeJSON(filepath.Join(dir, stateFile), s)
	}
	return errors.Join(err, lock.Close())
}

func (s *state) trust(ids []string) {
	s.Trusted = append(s.Trusted, ids...)
	slices.Sort(s.Trusted)
	s.Trusted = slices.Compact(s.Trusted)
}

// Trust is as the function of that name.
func (f *Fleet) Trust(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.trust(ids)
	if err := writeJSON(filepath.Join(f.dir, stateFile), f.state); err != nil {
		return err
	}
	for i, n := range f.nodes {
		running := n.service.view().wanted
		if err := n.service.do(ctx, orderStop); err != nil {
			return err
		}
		_, peer, err := f.settings(i)
		if err != nil {
			return err
		}
		if err := settlePeer(n.dir, peer); err != nil {
			return err
		}
		if !running {
			continue
		}
		if err := n.service.do(ctx, orderRun); err != nil {
			return err
		}
		if err := poll(ctx, n.answers); err != nil {
			return err
		}
	}
	return nil
}
