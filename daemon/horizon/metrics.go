package horizon

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cluster-labs/ipfscloud/daemon/printable"
)

// Metrics is /metrics without a lock: for the control socket, which has its own.
func (s *Server) Metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(s), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 8 * time.Second,
		ErrorHandling: promhttp.ContinueOnError})
}

// guardMetrics lets in who has the token. A browser has none, and no cookie counts.
func (s *Server) guardMetrics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secureHeaders(w.Header())
		want := ""
		if s.config.MetricsToken != nil {
			want = s.config.MetricsToken()
		}
		got, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case !s.loopbackHost(r.Host):
			s.refused.count("host")
			http.Error(w, "Refused (host).", http.StatusMisdirectedRequest)
		case want == "":
			http.NotFound(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.Error(w, "Refused (method).", http.StatusMethodNotAllowed)
		case !bearer || !same(got, want):
			s.refused.count("token")
			w.Header().Set("WWW-Authenticate", `Bearer realm="ipfscloud"`)
			http.Error(w, "Refused (token).", http.StatusUnauthorized)
		default:
			recognise(r) // strangers do not displace a scraper
			next.ServeHTTP(w, r)
		}
	})
}

// collector asks the Source at each scrape. What is not known is left out.
type collector struct {
	server *Server
	desc   map[string]*prometheus.Desc
}

// family is a metric: its name without the prefix, what it is, and its labels.
type family struct {
	name, help string
	labels     []string
}

// families are all the metrics there are, but those of Go and the process.
func families() []family {
	return []family{
		{"up", "1 if the state of the drive could be had.", nil},
		{"build_info", "1, with the version.", []string{"version"}},
		{"drive_state", "1 for the state that the drive is in.", []string{"state"}},
		{"drive_since_timestamp_seconds", "When the drive came into its state.", nil},
		{"recovery_phrase_pending", "1 while the recovery phrase is not confirmed.", nil},
		{"pending_operations", "Changes that are not committed.", nil},
		{"pending_bytes", "Bytes that are not committed.", nil},
		{"pending_oldest_timestamp_seconds", "Time of the oldest change that is not committed.", nil},
		{"commit_sequence", "Number of the newest commit.", nil},
		{"commit_timestamp_seconds", "Time of the newest commit.", nil},
		{"commits_total", "Commits made by this process.", nil},
		{"store_info", "1, with kind and version of the store.", []string{"kind", "version"}},
		{"store_used_bytes", "Bytes that the store uses on this computer.", nil},
		{"store_free_bytes", "Bytes free on the disk of the store.", nil},
		{"store_full", "1 while new data is refused for want of space.", nil},
		{"read_bytes_total", "Bytes read from the drive.", nil},
		{"written_bytes_total", "Bytes written to the drive.", nil},
		{"operation_duration_seconds", "Time that operations of the drive took.", []string{"kind"}},
		{"operation_errors_total", "Operations of the drive that failed.", []string{"kind"}},
		{"cache_hits_total", "Blocks found in the cache.", nil},
		{"cache_misses_total", "Blocks not found in the cache.", nil},
		{"cache_bytes", "Bytes in the cache.", nil},
		{"cache_limit_bytes", "Bytes that the cache may take.", nil},
		{"egress_configured", "1 if copies are to be kept on other machines.", nil},
		{"egress_up", "1 while Egress answers.", nil},
		{"egress_copies", "Copies of the newest commit that peers report.", nil},
		{"egress_target_copies", "Copies that are wanted.", nil},
		{"egress_unreplicated_bytes", "Committed bytes that no peer has.", nil},
		{"pins", "Pins by state.", []string{"state"}},
		{"peer_up", "1 if the peer is up.", []string{"peer", "name"}},
		{"peer_free_bytes", "Bytes free at the peer.", []string{"peer", "name"}},
		{"peer_pins", "Pins that the peer holds.", []string{"peer", "name"}},
		{"peer_pin_errors", "Pins that the peer reports an error for.", []string{"peer", "name"}},
		{"peer_last_seen_timestamp_seconds", "When the peer was heard of last.", []string{"peer", "name"}},
		{"alerts", "Alerts by severity.", []string{"severity"}},
		{"safe", "1 if the page says that everything is stored as it should be.", nil},
		{"horizon_streams", "Pages that get live news.", nil},
		{"horizon_refused_total", "Requests that were refused, by reason.", []string{"reason"}},
	}
}

const metricPrefix = "ipfscloud_"

func newCollector(s *Server) *collector {
	c := &collector{server: s, desc: map[string]*prometheus.Desc{}}
	for _, f := range families() {
		c.desc[f.name] = prometheus.NewDesc(metricPrefix+f.name, f.help, f.labels, nil)
	}
	return c
}

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.desc {
		out <- d
	}
}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	e := emitter{c, out}
	e.gauge("horizon_streams", float64(len(c.server.streams)))
	for reason, n := range c.server.refused.all() {
		e.counter("horizon_refused_total", float64(n), reason)
	}
	s, err := c.server.config.Source.State(ctx)
	e.flag("up", err == nil)
	if err != nil {
		return
	}
	e.drive(s)
	e.counters(s.Counters)
	e.egress(s)
	snap := c.server.watcher.now()
	e.flag("safe", Judge(time.Now(), time.Now(), s, snap.flow).Level == Safe)
}

// emitter hands metrics out.
type emitter struct {
	*collector
	out chan<- prometheus.Metric
}

func (e emitter) gauge(name string, v float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(e.desc[name], prometheus.GaugeValue, v, valid(labels)...)
}

func (e emitter) counter(name string, v float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(e.desc[name], prometheus.CounterValue, v, valid(labels)...)
}

func (e emitter) flag(name string, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	e.gauge(name, v, labels...)
}

func (e emitter) time(name string, t time.Time, labels ...string) {
	if !t.IsZero() {
		e.gauge(name, float64(t.UnixMilli())/1000, labels...)
	}
}

// valid makes labels of what others wrote: a label must be UTF-8, and is shown elsewhere.
func valid(labels []string) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = printable.Line(clip(strings.ToValidUTF8(l, "?"), 128))
	}
	return out
}

func (e emitter) drive(s State) {
	e.gauge("build_info", 1, s.Version)
	for _, state := range []string{Mounted, ReadOnly, Stopped} {
		e.flag("drive_state", s.Drive.State == state, state)
	}
	e.time("drive_since_timestamp_seconds", s.Drive.Since)
	e.flag("recovery_phrase_pending", s.PhrasePending)
	e.gauge("pending_operations", float64(s.Pending.Ops))
	e.gauge("pending_bytes", float64(s.Pending.Bytes))
	e.time("pending_oldest_timestamp_seconds", s.Pending.Oldest)
	e.gauge("commit_sequence", float64(s.Commit.Sequence))
	e.time("commit_timestamp_seconds", s.Commit.Time)
	e.gauge("store_info", 1, s.Store.Kind, s.Store.Version)
	e.gauge("store_used_bytes", float64(s.Store.Used))
	if s.Store.Free > 0 {
		e.gauge("store_free_bytes", float64(s.Store.Free))
	}
	e.flag("store_full", s.Store.Full)
	alerts := map[string]int{Critical: 0, Warning: 0, Notice: 0}
	for _, a := range s.Alerts {
		if _, known := alerts[a.Severity]; known { // severities are labels, and labels are few
			alerts[a.Severity]++
		}
	}
	for severity, n := range alerts {
		e.gauge("alerts", float64(n), severity)
	}
}

func (e emitter) counters(c Counters) {
	e.counter("read_bytes_total", float64(c.BytesRead))
	e.counter("written_bytes_total", float64(c.BytesWritten))
	e.counter("commits_total", float64(c.Commits))
	if c.CacheLimit > 0 { // else there is none
		e.counter("cache_hits_total", float64(c.CacheHits))
		e.counter("cache_misses_total", float64(c.CacheMisses))
		e.gauge("cache_bytes", float64(c.CacheBytes))
		e.gauge("cache_limit_bytes", float64(c.CacheLimit))
	}
	seen := map[string]bool{}
	for _, op := range c.Ops {
		kind := valid([]string{op.Kind})[0]
		if seen[kind] { // twice the same would fail the whole scrape
			continue
		}
		seen[kind] = true
		e.counter("operation_errors_total", float64(op.Errors), kind)
		buckets, sum := map[float64]uint64{}, uint64(0)
		for i, b := range c.Bounds {
			if i < len(op.Buckets) {
				sum += op.Buckets[i]
			}
			buckets[b] = sum
		}
		e.out <- prometheus.MustNewConstHistogram(e.desc["operation_duration_seconds"], op.Count, op.Seconds, buckets, kind)
	}
}

func (e emitter) egress(s State) {
	e.flag("egress_configured", s.Egress.Configured)
	if !s.Egress.Configured {
		return
	}
	e.flag("egress_up", !down(s.Egress))
	e.gauge("egress_copies", float64(s.Egress.Copies))
	e.gauge("egress_target_copies", float64(s.Egress.Target))
	e.gauge("egress_unreplicated_bytes", float64(s.Egress.OnlyHere))
	pins := map[PinState]int{}
	for _, p := range s.Pins {
		pins[p.State]++
	}
	for _, state := range pinStates() { // no others: states are labels, and labels are few
		e.gauge("pins", float64(pins[state]), string(state))
	}
	seen := map[string]bool{}
	for _, p := range s.Peers {
		labels := valid([]string{p.ID, p.Name})
		if seen[labels[0]] {
			continue
		}
		seen[labels[0]] = true
		e.flag("peer_up", p.Up, labels...)
		if p.Free > 0 {
			e.gauge("peer_free_bytes", float64(p.Free), labels...)
		}
		e.gauge("peer_pins", float64(p.Pins), labels...)
		e.gauge("peer_pin_errors", float64(p.Errors), labels...)
		e.time("peer_last_seen_timestamp_seconds", p.LastSeen, labels...)
	}
}
