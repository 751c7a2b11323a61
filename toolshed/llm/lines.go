package llm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

var (
	reflectAnswer = reflect.TypeFor[chatAnswer]()
	reflectPart   = reflect.TypeFor[chatPart]()
)

// lines writes parts of an answer, each sent at once.
type lines struct {
	ctx     huma.Context
	kind    string
	control *http.ResponseController
	begun   bool
	// before and after stand around each part.
	before, after string
}

func newLines(ctx huma.Context, kind string) *lines {
	_, w := humago.Unwrap(ctx)
	return &lines{ctx: ctx, kind: kind, control: http.NewResponseController(w), after: "\n"}
}

// events writes server-sent events (HTML standard, section 9.2).
func newEvents(ctx huma.Context) *lines {
	l := newLines(ctx, "text/event-stream")
	l.before, l.after = "data: ", "\n\n"
	return l
}

func (l *lines) write(part any) error {
	b, err := json.Marshal(part)
	if err != nil {
		return fmt.Errorf("encoding a part of the answer: %w", err)
	}
	return l.raw(string(b))
}

func (l *lines) raw(text string) error {
	if !l.begun {
		l.begun = true
		l.ctx.SetHeader("Content-Type", l.kind)
		l.ctx.SetHeader("Cache-Control", "no-store")
		l.ctx.SetHeader("X-Accel-Buffering", "no")
		l.ctx.SetStatus(http.StatusOK)
	}
	if _, err := l.ctx.BodyWriter().Write([]byte(l.before + text + l.after)); err != nil {
		return fmt.Errorf("passing the answer on: %w", err)
	}
	return l.control.Flush()
}
