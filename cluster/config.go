package cluster

import (
	"fmt"
	"log/slog"
	"time"
)

// Config says how to reach a cluster.
type Config struct {
	// Endpoints are the REST APIs of peers of one cluster: http://HOST:PORT,
	// https://HOST:PORT or unix:///PATH. The first that works is used.
	Endpoints []string
	// CAFile holds certificates of the authority to trust for https, in PEM; without it,
	// those of the system are.
	CAFile string
	// User and Password, or Token, go to each endpoint. Over http to another machine
	// everybody on the way can read them.
	User, Password, Token string
	// CallTimeout is for one call to one endpoint, and for a pause within a long answer;
	// ten seconds by default. Calls for which the cluster asks other peers have longer.
	CallTimeout time.Duration
	Log         *slog.Logger // nil is silence
}

const defaultCallTimeout = 10 * time.Second

func (c *Config) settle() error {
	if len(c.Endpoints) == 0 {
		return fmt.Errorf("%w: no endpoint", ErrConfig)
	}
	if c.Token != "" && c.User != "" {
		return fmt.Errorf("%w: a token, or a user and a password, but not both", ErrConfig)
	}
	if c.CallTimeout < 0 {
		return fmt.Errorf("%w: a timeout of %v", ErrConfig, c.CallTimeout)
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = defaultCallTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
