package live

import (
	"embed"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed assets page.html
var files embed.FS

var livePage = page.New("Live", "/live/assets/live.js", mustRead("page.html"))

func mustRead(name string) string {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return string(b)
}

type shown struct {
	Topic, Text, Error string
	Events             []shownEvent
	Members            []Member
}

type shownEvent struct {
	At, Data string
}

// onPage is how many events the page shows.
const onPage = 50

func (h handlers) registerPage(m *mount.Mount) {
	m.Page("/live", ScopeRead, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.show(w, r, http.StatusOK, shown{Topic: r.URL.Query().Get("topic")})
	}))
	m.Handle("POST /live", mount.Route{Scope: ScopeWrite, Accepts: []string{"application/x-www-form-urlencoded"}}, http.HandlerFunc(h.publishOnPage))
	m.Handle("GET /live/assets/{name}", mount.Route{Public: true}, page.AssetsOf(files, "assets"))
}

func (h handlers) show(w http.ResponseWriter, r *http.Request, status int, d shown) {
	if d.Topic != "" {
		err := CheckTopic(d.Topic)
		refused := mayListen(r.Context(), []string{d.Topic})
		switch {
		case err != nil:
			status, d.Error, d.Topic = http.StatusUnprocessableEntity, err.Error(), ""
		case refused != nil:
			status, d.Error, d.Topic = refused.Status, refused.Detail, ""
		default:
			d.Members = h.Present(d.Topic)
			for _, e := range h.Recent(d.Topic, onPage) {
				d.Events = append(d.Events, shownEvent{e.At.Format("15:04:05"), string(e.Data)})
			}
		}
	}
	if err := livePage.Write(w, status, d); err != nil {
		problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
	}
}

// publishOnPage publishes JSON as it is, and anything else as a text.
func (h handlers) publishOnPage(w http.ResponseWriter, r *http.Request) {
	topic, text := r.PostFormValue("topic"), r.PostFormValue("data")
	data := json.RawMessage(text)
	var err error
	if !json.Valid(data) {
		data, err = json.Marshal(text)
	}
	if err == nil {
		_, err = h.byCaller(topic, data)
	}
	if err != nil {
		var p *problem.Problem
		if !errors.As(err, &p) {
			p = refusal(err)
		}
		h.show(w, r, p.Status, shown{Text: text, Error: p.Detail})
		return
	}
	if auth.Check(r.Context(), ScopeRead) != nil {
		topic = ""
	}
	http.Redirect(w, r, "/live?topic="+url.QueryEscape(topic), http.StatusSeeOther)
}
