package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"golang.org/x/term"

	"github.com/cluster-labs/ipfscloud/daemon/printable"
)

// output is where a command writes for people. Everything that is written to it is filtered:
// names of peers, errors of servers, DID documents and file names were written by others,
// and a terminal obeys control characters whoever they are from. So commands write through
// it and never to os.Stdout or os.Stderr; a test sees to that.
//
// What goes through Write keeps its newlines. Printf and Println are for what others wrote:
// each value that they are given is one line, so that it cannot pretend to be a line of
// ours. Only trusted writes sequences that the terminal is to obey.
//
// JSON that goes through it says the same to a program as before.
type output struct {
	*printable.Writer
	file *os.File // nil in tests
}

var _ io.Writer = (*output)(nil)

func newOutput(f *os.File) *output { return &output{printable.NewWriter(f), f} }

// sequence is what a terminal obeys. There are no others than these: none is made of data.
type sequence string

const (
	enterScreen  sequence = "\x1b[?1049h\x1b[H\x1b[2J" // the alternate one, empty
	clearScreen  sequence = "\x1b[H\x1b[2J"
	leaveScreen  sequence = "\x1b[2J\x1b[?1049l"
	beginLine    sequence = "\r\x1b[K" // what stands in the line goes
	blackOnWhite sequence = "\x1b[30;107m"
	usualColours sequence = "\x1b[0m"
)

// obey sends the terminal a sequence.
func (o *output) obey(s sequence) { _, _ = o.Raw([]byte(s)) }

// Printf formats as fmt.Printf does. Values are one line each.
func (o *output) Printf(format string, args ...any) {
	fmt.Fprintf(o, format, lines(args)...)
}

// Println writes values as fmt.Println does, one line in all.
func (o *output) Println(args ...any) {
	fmt.Fprintln(o, lines(args)...)
}

// lines makes each value one line: what is no number is formatted first.
func lines(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case nil:
			out[i] = a
		case string:
			out[i] = printable.Line(v)
		case error:
			out[i] = printable.Line(oneLine(v))
		case fmt.Stringer:
			out[i] = printable.Line(v.String())
		default:
			switch reflect.TypeOf(a).Kind() {
			case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
				reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
				out[i] = a
			default:
				out[i] = printable.Line(fmt.Sprint(a))
			}
		}
	}
	return out
}

// terminal is the descriptor of the terminal that this is, if it is one.
func (o *output) terminal() (fd int, ok bool) {
	if o == nil || o.file == nil {
		return -1, false
	}
	fd = int(o.file.Fd())
	return fd, term.IsTerminal(fd)
}

// data writes bytes that are for another program, as they are: a key, a request.
func (o *output) data(b []byte) error {
	if _, ok := o.terminal(); ok {
		_, err := o.Write(b)
		return err
	}
	n, err := o.Raw(b)
	if err == nil && n < len(b) {
		err = errors.Join(io.ErrShortWrite)
	}
	return err
}
