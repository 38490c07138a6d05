package horizon

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"
)

// everything is a state of which every metric is known.
func everything() State {
	now := time.Now()
	s := good(now)
	busy(&s)
	s.Counters.Ops = []Op{{Kind: "read", Count: 10, Errors: 1, Seconds: .5, Buckets: []uint64{1, 2, 3, 0, 0, 0, 0, 0, 0}}}
	s.Alerts = []Alert{{Severity: Critical}, {Severity: "of its own"}}
	return s
}

func TestMetrics(t *testing.T) {
	s := serve(t)
	s.source.change(func(st *State) { *st = everything() })
	get := func(token string, header ...string) (*http.Response, string) {
		if token != "" {
			header = append(header, "Authorization", token)
		}
		return s.ask("GET", "/metrics", "", header...)
	}
	cookie, _ := s.login()
	for _, token := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "metrics-token", "Basic metrics-token", "Bearer metrics-token2"} {
		if resp, body := get(token, "Cookie", cookie); resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, "ipfscloud_") {
			t.Errorf("token %q: %s", token, resp.Status)
		}
	}
	for host, want := range map[string]int{"127.0.0.1:1": 200, "[::1]:1": 200, "localhost": 200, s.name: 200, "evil.example": 421, "127.0.0.1.evil.example": 421, "192.0.2.1": 421} {
		if resp, _ := get("Bearer metrics-token", "Host", host); resp.StatusCode != want {
			t.Errorf("Host %s: %s", host, resp.Status)
		}
	}
	if resp, _ := s.ask("POST", "/metrics", "", "Authorization", "Bearer metrics-token"); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Error("POST: ", resp.Status)
	}
	_, body := get("Bearer metrics-token")
	for _, want := range []string{
		`ipfscloud_up 1`, `ipfscloud_pending_bytes 1.34e+09`, `ipfscloud_pins{state="held"} 3`, `ipfscloud_pins{state="copying"} 1`, `ipfscloud_pins{state="lost"} 0`,
		`ipfscloud_peer_up{name="attic",peer="12D3KooWPeer0"} 1`, `ipfscloud_alerts{severity="critical"} 1`, `ipfscloud_drive_state{state="mounted"} 1`,
		`ipfscloud_operation_duration_seconds_bucket{kind="read",le="0.001"} 6`, `ipfscloud_operation_duration_seconds_bucket{kind="read",le="+Inf"} 10`,
		`ipfscloud_operation_duration_seconds_sum{kind="read"} 0.5`, `ipfscloud_operation_errors_total{kind="read"} 1`, `ipfscloud_egress_copies 1`,
		`ipfscloud_commit_sequence 1042`, `ipfscloud_safe 0`, `ipfscloud_horizon_refused_total{reason="token"} 7`, "go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(body, "of its own") {
		t.Error("others can make labels")
	}

	// On the control socket, and when the drive does not answer.
	s.source.mu.Lock()
	s.source.err = errors.New("gone")
	s.source.mu.Unlock()
	w := httptest.NewRecorder()
	s.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "\nipfscloud_up 0") || strings.Contains(w.Body.String(), "ipfscloud_pins") {
		t.Errorf("without a state: %d %s", w.Code, w.Body)
	}
}

func TestNoTokenNoMetrics(t *testing.T) {
	for name, token := range map[string]func() string{"none": nil, "empty": func() string { return "" }} {
		s := serve(t, func(s *Server) { s.config.MetricsToken = token })
		for _, header := range [][]string{nil, {"Authorization", "Bearer "}, {"Authorization", "Bearer"}} {
			if resp, body := s.ask("GET", "/metrics", "", header...); resp.StatusCode != http.StatusNotFound || strings.Contains(body, "ipfscloud_") {
				t.Errorf("%s: %s", name, resp.Status)
			}
		}
	}
}

// exported are the names that a scrape shows, with those of the samples of histograms.
func exported(t *testing.T) []string {
	t.Helper()
	srv, err := New(Config{Source: &driven{state: everything()}})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	srv.refused.count("host")
	w := httptest.NewRecorder()
	srv.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	found, err := parser.TextToMetricFamilies(io.NopCloser(w.Body))
	if err != nil {
		t.Fatal("not the format of Prometheus: ", err)
	}
	var names []string
	for name, f := range found {
		names = append(names, name)
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		if f.GetType().String() == "HISTOGRAM" {
			names = append(names, name+"_bucket", name+"_sum", name+"_count")
		}
		if counter := f.GetType().String() == "COUNTER"; strings.HasPrefix(name, metricPrefix) && counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s: only counters end in _total", name)
		}
	}
	for _, f := range families() {
		if !slices.Contains(names, metricPrefix+f.name) {
			t.Errorf("%s is never exported", f.name)
		}
	}
	return names
}

// What the dashboard and the alert rules ask for exists.
func TestGrafanaNames(t *testing.T) {
	names := exported(t)
	dir := filepath.Join("..", "..", "contrib", "grafana")
	var expressions []string
	data, err := os.ReadFile(filepath.Join(dir, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Definition string }
		}
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %+v", p)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	for _, l := range board.Templating.List {
		expressions = append(expressions, l.Definition)
	}
	if data, err = os.ReadFile(filepath.Join(dir, "alerts.yaml")); err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(data, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
				t.Errorf("rule %+v", r)
			}
			expressions = append(expressions, r.Expr)
		}
	}
	if len(expressions) < 30 {
		t.Fatalf("only %d expressions", len(expressions))
	}
	used := map[string]bool{}
	for _, e := range expressions {
		for _, name := range regexp.MustCompile(`\b(ipfscloud|go|process)_[a-z0-9_]+`).FindAllString(e, -1) {
			used[name] = true
			if !slices.Contains(names, name) {
				t.Errorf("there is no metric %s: %s", name, e)
			}
		}
		if strings.Count(e, "(") != strings.Count(e, ")") || strings.Count(e, "{") != strings.Count(e, "}") {
			t.Errorf("brackets: %s", e)
		}
	}
	if len(used) < 25 {
		t.Errorf("only %d metrics are used", len(used))
	}
}
