package horizon

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

// Chart is a picture of the last hour, with its numbers for who does not see it.
type Chart struct {
	ID, Title string
	Top, Half string // what the scale says
	Series    []Series
	Picture   template.HTML
	Rows      []ChartRow // the same, by five minutes
	Empty     bool
}

// Series is a line of a chart.
type Series struct {
	Name, Now string
	Class     string
}

// ChartRow is a line of the table.
type ChartRow struct {
	Time   string
	Values []string
}

// line is a series with its points; NaN leaves a gap.
type line struct {
	name   string
	values []float64
}

const (
	chartWide, chartHigh = 600.0, 120.0
	tableStep            = 30 // points in a row of the table: five minutes
)

// chartsOf draws the hour.
func chartsOf(points []Point) []Chart {
	read, written, waiting := line{name: "read"}, line{name: "written"}, line{name: "waiting"}
	var latency []line
	for i, kind := range drawnKinds() {
		l := line{name: kind}
		for _, p := range points {
			l.values = append(l.values, p.Latency[i])
		}
		latency = append(latency, l)
	}
	for _, p := range points {
		read.values = append(read.values, p.Read)
		written.values = append(written.values, p.Written)
		waiting.values = append(waiting.values, float64(p.Waiting))
	}
	return []Chart{
		chartOf("throughput", "Throughput", points, rateText, 1000, read, written),
		chartOf("latency", "Latency, 95 % were faster", points, secondsText, 0.001, latency...),
		chartOf("waiting", "Only on this computer", points, func(v float64) string { return bytesText(int64(v)) }, 1000, waiting),
	}
}

// ceil is the next round number for a scale: 1, 2 or 5 times a power of ten.
func ceil(v, least float64) float64 {
	v = max(v, least)
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power*1.0001 {
			return m * power
		}
	}
	return 10 * power
}

func chartOf(id, title string, points []Point, text func(float64) string, least float64, lines ...line) Chart {
	c := Chart{ID: id, Title: title, Empty: true}
	top := 0.0
	for _, l := range lines {
		for _, v := range l.values {
			if !math.IsNaN(v) {
				top, c.Empty = max(top, v), c.Empty && v == 0
			}
		}
	}
	top = ceil(top, least)
	c.Top, c.Half = text(top), text(top/2)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" preserveAspectRatio="none" aria-hidden="true" focusable="false">`, chartWide, chartHigh)
	for _, y := range []float64{0.5, chartHigh / 2, chartHigh - 0.5} {
		fmt.Fprintf(&b, `<path class="grid" d="M0 %gH%g"/>`, y, chartWide)
	}
	for i, l := range lines {
		class := fmt.Sprintf("s%d", i+1)
		s := Series{Name: l.name, Class: class, Now: "–"}
		if n := len(l.values); n > 0 && !math.IsNaN(l.values[n-1]) {
			s.Now = text(l.values[n-1])
		}
		c.Series = append(c.Series, s)
		if i == 0 && len(lines) < 3 {
			fmt.Fprintf(&b, `<path class="area %s" d="%s"/>`, class, path(l.values, top, true))
		}
		fmt.Fprintf(&b, `<path class="line %s" d="%s"/>`, class, path(l.values, top, false))
	}
	b.WriteString(`</svg>`)
	c.Picture = template.HTML(b.String())
	c.Rows = chartRows(points, text, lines)
	return c
}

// path draws values from the right edge, which is now, to the left. Two neighbours are
// drawn as one point, the higher: a screen has no more room, and a peak must not vanish.
func path(values []float64, top float64, area bool) string {
	const perPoint = 2
	step := chartWide / (slots/perPoint - 1)
	values = values[len(values)%perPoint:]
	n := len(values) / perPoint
	var b strings.Builder
	pen, start, x := false, 0.0, 0.0
	end := func() {
		if area && pen {
			fmt.Fprintf(&b, "L%.1f %gL%.1f %gZ", x, chartHigh, start, chartHigh)
		}
		pen = false
	}
	for i := range n {
		v := math.NaN()
		for _, w := range values[i*perPoint : (i+1)*perPoint] {
			if !math.IsNaN(w) && (math.IsNaN(v) || w > v) {
				v = w
			}
		}
		if math.IsNaN(v) {
			end()
			continue
		}
		x = chartWide - float64(n-1-i)*step
		y := chartHigh - 1 - (chartHigh-2)*min(1, v/top)
		if !pen {
			pen, start = true, x
			fmt.Fprintf(&b, "M%.1f %.1f", x, y)
			if !area { // a point alone is seen, too
				b.WriteString("h.1")
			}
			continue
		}
		fmt.Fprintf(&b, "L%.1f %.1f", x, y)
	}
	end()
	return b.String()
}

// chartRows says the hour in numbers: the mean of each five minutes.
func chartRows(points []Point, text func(float64) string, lines []line) []ChartRow {
	var rows []ChartRow
	for from := 0; from < len(points); from += tableStep {
		to := min(from+tableStep, len(points))
		row := ChartRow{Time: points[from].At.Add(-slot).Format("15:04") + "–" + points[to-1].At.Format("15:04")}
		for _, l := range lines {
			sum, n := 0.0, 0
			for _, v := range l.values[from:to] {
				if !math.IsNaN(v) {
					sum, n = sum+v, n+1
				}
			}
			if n == 0 {
				row.Values = append(row.Values, "–")
				continue
			}
			row.Values = append(row.Values, text(sum/float64(n)))
		}
		rows = append(rows, row)
	}
	return rows
}

// sizeBars draws how many blocks have which size.
func sizeBars(sizes []SizeClass) template.HTML {
	const wide, row = 360, 22
	sizes = first(sizes, 16)
	if len(sizes) == 0 {
		return ""
	}
	most := int64(1)
	for _, s := range sizes {
		most = max(most, s.Count)
	}
	var b strings.Builder
	var words []string
	fmt.Fprintf(&b, `<svg class="bars" viewBox="0 0 %d %d" role="img" aria-label="`, wide, row*len(sizes))
	for _, s := range sizes {
		words = append(words, countText(s.Count)+" of "+blockText(s.Size))
	}
	fmt.Fprintf(&b, `Blocks by size: %s"><g aria-hidden="true">`, strings.Join(words, ", "))
	for i, s := range sizes {
		y := i * row
		fmt.Fprintf(&b, `<text x="66" y="%d" text-anchor="end">%s</text><rect x="76" y="%d" width="%.1f" height="%d" rx="2"/><text x="%d" y="%d" text-anchor="end">%s</text>`,
			y+15, blockText(s.Size), y+5, 2+210*float64(max(0, s.Count))/float64(most), row-9, wide, y+15, countText(s.Count))
	}
	b.WriteString(`</g></svg>`)
	return template.HTML(b.String())
}

// rhythmBars draws the commits of each hour.
func rhythmBars(hours []int) template.HTML {
	const wide, high = 360.0, 48.0
	if len(hours) > 48 {
		hours = hours[len(hours)-48:]
	}
	if len(hours) == 0 {
		return ""
	}
	most, sum := 1, 0
	for _, h := range hours {
		most, sum = max(most, h), sum+h
	}
	step := wide / float64(len(hours))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="bars" viewBox="0 0 %g %g" role="img" aria-label="Commits in the last %s: %s, at most %d in one">`,
		wide, high, spanText(time.Duration(len(hours))*time.Hour), countText(int64(sum)), most)
	for i, h := range hours {
		tall := 1.0
		if h > 0 {
			tall = 2 + (high-3)*float64(h)/float64(most)
		}
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="1"/>`, float64(i)*step+1, high-tall, step-2, tall)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}
