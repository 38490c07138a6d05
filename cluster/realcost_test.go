package cluster_test

import (
	"encoding/base32"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// TestCostOfManyPins counts what a Keeper asks a real peer of 10,000 pins, and what that
// costs the peer: what the package's comment states.
func TestCostOfManyPins(t *testing.T) {
	if !soak() {
		t.Skip("it makes 10,000 pins, which takes minutes: IPFSCLOUD_SOAK=1")
	}
	const pins, steady = 10_000, 5 * time.Minute
	f := fleettest.Up(t, fleet.Config{Peers: 1})
	i, node := f.Info(), f.Nodes()[0]
	to, err := url.Parse(i.Endpoints[0].URL)
	must(t, err)
	var calls, bytes atomic.Int64
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(r *http.Response) error {
			calls.Add(1)
			r.Body = &counted{r.Body, &bytes}
			return nil
		},
	}
	proxy := httptest.NewServer(pass)
	t.Cleanup(proxy.Close)

	// The blocks are in their CIDs: what is measured is the keeping of the list.
	cids := make([]string, pins)
	for n := range cids {
		b := append([]byte{1, 0x55, 0, 8}, fmt.Sprintf("%08d", n)...)
		cids[n] = "b" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
	}
	begun := time.Now()
	todo := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for cid := range todo {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
					i.Endpoints[0].URL+"/pins/"+cid+"?replication-min=1&replication-max=1&meta-"+cluster.OwnerKey+"=test", nil)
				if err == nil {
					req.SetBasicAuth(i.Username, i.Password)
					var resp *http.Response
					if resp, err = http.DefaultClient.Do(req); err == nil {
						if resp.StatusCode/100 != 2 {
							err = fmt.Errorf("%s: %s", cid, resp.Status)
						}
						_ = resp.Body.Close()
					}
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, cid := range cids {
		todo <- cid
	}
	close(todo)
	wg.Wait()
	t.Logf("%d pins made: after %v", pins, time.Since(begun).Round(time.Second))

	client, err := cluster.NewClient(cluster.Config{Endpoints: []string{proxy.URL}, User: i.Username, Password: i.Password})
	must(t, err)
	t.Cleanup(client.Close)
	k, err := cluster.NewKeeper(client, cluster.Policy{Min: 1, Max: 1}, cluster.KeeperConfig{Owner: "test"})
	must(t, err)
	wants := make([]cluster.Want, pins)
	for n, cid := range cids {
		wants[n] = cluster.Want{CID: cid, Newest: n == 0}
	}
	ipfs, service := node.PIDs()
	measure := func(what string, over func()) {
		calls.Store(0)
		bytes.Store(0)
		own, at, peer := cpu(t, os.Getpid()), time.Now(), cpu(t, service)+cpu(t, ipfs)
		over()
		minutes := time.Since(at).Minutes()
		t.Logf("%s: %.1f minutes, %.1f calls and %.0f kB a minute; processor time: %.2f %% of a core here, %.2f %% at the peer", what, minutes,
			float64(calls.Load())/minutes, float64(bytes.Load())/minutes/1000,
			(cpu(t, os.Getpid())-own).Minutes()/minutes*100, (cpu(t, service)+cpu(t, ipfs)-peer).Minutes()/minutes*100)
	}
	held := func() int {
		n := 0
		for _, p := range k.Pins() {
			if p.Copies == 1 {
				n++
			}
		}
		return n
	}
	run(t, k)
	measure("until all are known", func() {
		k.Want(wants)
		deadline := time.Now().Add(30 * time.Minute)
		for held() < pins {
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d are known to be held", held(), pins)
			}
			time.Sleep(time.Second) // between two looks
		}
	})
	measure("then", func() { time.Sleep(steady) }) // this time is what is measured
	if perMinute := float64(calls.Load()) / steady.Minutes(); perMinute > 40 {
		t.Errorf("%.1f calls a minute", perMinute)
	}
}

// counted counts what is read.
type counted struct {
	from interface {
		Read([]byte) (int, error)
		Close() error
	}
	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func (c *counted) Close() error { return c.from.Close() }

// cpu is the processor time of a process.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	var user, system int64
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')'):]))
	_, err = fmt.Sscan(fields[12]+" "+fields[13], &user, &system)
	must(t, err)
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ
}
