package cluster

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func startKeeper(t *testing.T, answer http.HandlerFunc, cfg KeeperConfig) *Keeper {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	k, err := NewKeeper(newTestClient(t, Config{Endpoints: []string{s.URL}, CallTimeout: shortTimeout}), Policy{Min: 2, Max: 3}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("Run does not end with its context")
		}
	})
	return k
}

func eventually(t *testing.T, k *Keeper, what string, ok func(Summary) bool) {
	t.Helper()
	for limit := time.After(time.Minute); ; {
		changed := k.Changed()
		if ok(k.Summary()) {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%s: %+v", what, k.Summary())
		}
	}
}

// An API that is of no use is told of, and nobody waits for ever.
func TestKeeperWithABadAPI(t *testing.T) {
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		refused bool
		says    string
	}{
		"hang":    {hang, false, "no answer"},
		"garbage": {text(200, "garbage"), false, "unusable"},
		"refused": {text(401, ""), true, "refused"},
		"500":     {text(500, "{}"), false, "500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := startKeeper(t, c.answer, KeeperConfig{})
			cid := testCID(1)
			k.Want([]Want{{CID: cid, Newest: true}})
			eventually(t, k, "it says what is wrong", func(s Summary) bool {
				return !s.Reachable && s.Refused == c.refused && strings.Contains(s.Error, c.says) && !s.ErrorSince.IsZero()
			})
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := k.Wait(ctx, cid, 2)
			if !errors.Is(err, ErrShort) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if p, ok := k.Pin(cid); !ok || p.State != StateWanted && p.State != StateFailed || p.Copies != 0 || p.Reason == "" {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestWaitForWhatWillNotBe(t *testing.T) {
	k := startKeeper(t, hang, KeeperConfig{})
	if err := k.Wait(t.Context(), testCID(1), 2); !errors.Is(err, ErrNotWanted) {
		t.Error(err)
	}
	k.Want([]Want{{CID: testCID(1)}, {CID: "../../nonsense", Newest: true}})
	if err := k.Wait(t.Context(), testCID(1), 4); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	if p, _ := k.Pin("../../nonsense"); p.State != StateFailed {
		t.Errorf("%+v", p)
	}
	result := make(chan error, 1)
	go func() { result <- k.Wait(t.Context(), testCID(1), 1) }()
	for {
		k.mu.Lock()
		waiting := k.book.pins[testCID(1)].waiting
		k.mu.Unlock()
		if waiting > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	k.Want(nil)
	select {
	case err := <-result:
		if !errors.Is(err, ErrNotWanted) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for what nobody wants any more")
	}
	if len(k.Pins()) != 0 {
		t.Errorf("%+v", k.Pins())
	}
}

// Who answers each change with what is wanted must not keep itself busy.
func TestTheSameWantIsNoChange(t *testing.T) {
	var calls atomic.Int32
	k := startKeeper(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}, KeeperConfig{})
	wants := func() []Want {
		return []Want{{CID: testCID(1), Newest: true, Metadata: map[string]string{"a": "b"}}, {CID: testCID(2)}}
	}
	k.Want(wants())
	eventually(t, k, "called", func(s Summary) bool { return s.Error != "" })
	for range 100 { // until what is said has settled
		changed := k.Changed()
		k.Want(wants())
		select {
		case <-changed:
			continue
		default:
			return
		}
	}
	t.Error("the same set again is a change each time")
}
