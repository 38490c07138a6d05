package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/fetch"
)

// Nothing that a DID of others or a web origin names makes this program connect to what is
// inside, unless the configuration says so.
func TestForeignFetchesStayOutside(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connected atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connected.Add(1)
			c.Close()
		}
	}()
	defer func() { l.Close(); <-done }()
	port := l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h := HomeAt(t.TempDir())
	web := fmt.Sprintf("did:web:localhost%%3A%d", port)
	_, err = ResolveDID(ctx, web, ResolveOptions{Home: h, Config: DefaultConfig()})
	if !errors.Is(err, did.ErrInvalid) || !strings.Contains(err.Error(), "not a public") {
		t.Errorf("did:web: %v", err)
	}
	_, err = (&Claims{Home: h}).Linked(ctx, fmt.Sprintf("https://localhost:%d", port), "", nil)
	if !errors.Is(err, fetch.ErrForbidden) {
		t.Errorf("a linked origin: %v", err)
	}
	if n := connected.Load(); n != 0 {
		t.Fatalf("%d connections", n)
	}
	t.Setenv("IPFSCLOUD_NETWORK_DID_PRIVATE", "127.0.0.0/8,::1/128")
	if _, err = ResolveDID(ctx, web, ResolveOptions{Home: h, Config: DefaultConfig()}); !errors.Is(err, did.ErrUnavailable) {
		t.Errorf("did:web, allowed by the configuration: %v", err)
	}
	if connected.Load() == 0 {
		t.Error("what the configuration allows was not asked")
	}
}
