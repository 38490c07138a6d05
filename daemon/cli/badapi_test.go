package cli

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// apiFault is what is wrong with an API.
type apiFault string

const (
	apiWell    apiFault = ""
	apiHangs   apiFault = "the API hangs"
	apiGarbage apiFault = "the API answers garbage"
)

// badAPI stands in front of the REST APIs of real nodes and spoils what they say.
type badAPI struct {
	servers []*httptest.Server
	fault   atomic.Value // an apiFault
}

func newBadAPI(t testing.TB, apis []string) *badAPI {
	t.Helper()
	b := &badAPI{}
	b.set(apiWell)
	for _, s := range apis {
		to, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		pass := &httputil.ReverseProxy{
			Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
			ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // as a node that is gone
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch b.fault.Load() {
			case apiHangs:
				<-r.Context().Done()
			case apiGarbage:
				_, _ = w.Write([]byte("<html>Welcome to your new router</html>")) // the client may be gone
			default:
				pass.ServeHTTP(w, r)
			}
		}))
		t.Cleanup(server.Close)
		t.Cleanup(server.CloseClientConnections)
		b.servers = append(b.servers, server)
	}
	return b
}

func (b *badAPI) set(f apiFault) { b.fault.Store(f) }

func (b *badAPI) urls() (all []string) {
	for _, s := range b.servers {
		all = append(all, s.URL)
	}
	return all
}
