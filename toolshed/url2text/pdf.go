package url2text

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/ledongthuc/pdf"
)

// A broken PDF can have the library loop, or unpack without end, and neither
// can be stopped from within: it is parsed by a process of its own, which has
// little time and memory (docs/decisions/0045).
const (
	pdfName    = "toolshed-pdf"
	pdfTimeout = 20 * time.Second
	pdfMemory  = 256 << 20
)

// pdfText is what the process answers.
type pdfText struct {
	Title, Author, Text string
	Pages               int
	// Broken and TooLarge say why there is none.
	Broken, TooLarge string
}

// ParsePDFIfAsked does nothing but in a process that was started to parse a
// PDF, which it ends. It must come early in main.
func ParsePDFIfAsked() {
	if len(os.Args) == 0 || os.Args[0] != pdfName {
		return
	}
	code := 0
	if err := parseStdin(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func parseStdin() error {
	if err := limitProcess(pdfTimeout, pdfMemory); err != nil {
		return err
	}
	file, err := io.ReadAll(io.LimitReader(os.Stdin, MaxPageBytes))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(parsePDF(file))
}

// parsePDF takes a PDF's text, page by page. The library panics on some broken
// files.
func parsePDF(file []byte) (t pdfText) {
	defer func() {
		if p := recover(); p != nil {
			t = pdfText{Broken: fmt.Sprint(p)}
		}
	}()
	r, err := pdf.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return pdfText{Broken: err.Error()}
	}
	info := r.Trailer().Key("Info")
	t.Title, t.Author, t.Pages = info.Key("Title").Text(), info.Key("Author").Text(), r.NumPage()
	if t.Pages > maxPages {
		return pdfText{TooLarge: fmt.Sprintf("%d pages, at most %d", t.Pages, maxPages)}
	}
	var text strings.Builder
	for i := 1; i <= t.Pages; i++ {
		page, err := r.Page(i).GetPlainText(nil)
		if err != nil {
			return pdfText{Broken: fmt.Sprintf("page %d: %v", i, err)}
		}
		text.WriteString(strings.TrimSpace(page) + "\n\n")
		if text.Len() > MaxPageBytes {
			return pdfText{TooLarge: fmt.Sprintf("its text has more than %d bytes", MaxPageBytes)}
		}
	}
	t.Text = strings.TrimSpace(strings.ToValidUTF8(text.String(), "\ufffd"))
	return t
}

// readPDF has the process parse a PDF. The error is ErrTooLarge or ErrBroken,
// or that of ctx.
func readPDF(ctx context.Context, file []byte, at *url.URL) (*Document, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("reading a PDF: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, pdfTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, self)
	cmd.Args, cmd.Env = []string{pdfName}, []string{}
	cmd.Stdin = bytes.NewReader(file)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("reading a PDF: %w", ctx.Err())
	case errors.As(err, &exit):
		return nil, fmt.Errorf("%w: parsing this PDF takes too much time or memory", ErrTooLarge)
	case err != nil:
		return nil, fmt.Errorf("reading a PDF: %w", err)
	}
	var t pdfText
	if err := json.Unmarshal(out, &t); err != nil {
		return nil, fmt.Errorf("reading a PDF: %w", err)
	}
	switch {
	case t.Broken != "":
		return nil, fmt.Errorf("%w: %.200s", ErrBroken, t.Broken)
	case t.TooLarge != "":
		return nil, fmt.Errorf("%w: %s", ErrTooLarge, t.TooLarge)
	}
	return &Document{
		URL: at.String(), Title: t.Title, Byline: t.Author, Pages: t.Pages, Content: t.Text, Words: len(strings.Fields(t.Text)),
	}, nil
}
