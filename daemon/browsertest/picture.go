package browsertest

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/chromedp/chromedp"
)

// Environment variables that name the directory for pictures that are shown to people, and
// for those that somebody who works on the page looks at. Without them there are none.
const (
	screenshots = "IPFSCLOUD_SCREENSHOTS"
	looks       = "IPFSCLOUD_LOOKS"
)

// Shoot leaves a picture of the window as NAME.png, if pictures are asked for.
func (b *Tab) Shoot(name string) {
	b.t.Helper()
	if dir := os.Getenv(screenshots); dir != "" {
		b.shoot(dir, name, chromedp.CaptureScreenshot)
	}
}

// ShootPart leaves a picture of an element, if pictures are asked for.
func (b *Tab) ShootPart(name, selector string) {
	b.t.Helper()
	if dir := os.Getenv(screenshots); dir != "" {
		b.shoot(dir, name, func(shot *[]byte) chromedp.Action {
			return chromedp.Screenshot(selector, shot, chromedp.ByQuery, chromedp.NodeVisible)
		})
	}
}

// Look leaves a picture of the whole page, if somebody wants to look.
func (b *Tab) Look(name string) {
	b.t.Helper()
	if dir := os.Getenv(looks); dir != "" {
		b.shoot(dir, name, func(shot *[]byte) chromedp.Action { return chromedp.FullScreenshot(shot, 100) })
	}
}

func (b *Tab) shoot(dir, name string, how func(*[]byte) chromedp.Action) {
	b.t.Helper()
	var shot []byte
	b.Do("screenshot", how(&shot))
	small, err := shrink(shot)
	if err != nil {
		b.t.Fatal("screenshot: ", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), small, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// shrink writes a picture with 256 of its colours: a page has few, and the file is a third
// as long. The most frequent go first, and those that are like none before: a small dot of
// green counts as much as the shades between ink and paper.
func shrink(shot []byte) ([]byte, error) {
	full, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	r := full.Bounds()
	plain := image.NewRGBA(r)
	draw.Draw(plain, r, full, r.Min, draw.Src)
	count := map[color.RGBA]int{}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			count[plain.RGBAAt(x, y)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	for _, apart := range []int{40, 20, 8, 0} {
		for _, c := range frequent {
			if len(palette) < 256 && !slices.ContainsFunc(palette, func(p color.Color) bool { return near(p.(color.RGBA), c, apart) }) {
				palette = append(palette, c)
			}
		}
	}
	nearest := map[color.RGBA]uint8{}
	for c := range count {
		nearest[c] = uint8(palette.Index(c))
	}
	out := image.NewPaletted(r, palette)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			out.SetColorIndex(x, y, nearest[plain.RGBAAt(x, y)])
		}
	}
	var b bytes.Buffer
	e := png.Encoder{CompressionLevel: png.BestCompression}
	err = e.Encode(&b, out)
	return b.Bytes(), err
}

// near: no channel differs by more.
func near(a, b color.RGBA, most int) bool {
	differ := func(x, y uint8) bool { return int(x)-int(y) > most || int(y)-int(x) > most }
	return !differ(a.R, b.R) && !differ(a.G, b.G) && !differ(a.B, b.B)
}
