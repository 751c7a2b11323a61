package url2text

import (
	"bytes"
	"fmt"
	"strings"

	innertext "codeberg.org/readeck/go-readability/v2/render"
	"github.com/JohannesKaufmann/html-to-markdown/v2/converter"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/base"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/commonmark"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/strikethrough"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/table"
	"golang.org/x/net/html"
)

// markdown converts nodes; it is safe for several at once.
var markdown = converter.NewConverter(converter.WithPlugins(
	base.NewBasePlugin(),
	commonmark.NewCommonmarkPlugin(),
	strikethrough.NewStrikethroughPlugin(),
	table.NewTablePlugin(table.WithHeaderPromotion(true), table.WithSkipEmptyRows(true)),
))

// render is the content in the form that was asked for.
func render(content *html.Node, f Format) (string, error) {
	switch f {
	case Text:
		return strings.TrimSpace(innertext.InnerText(content)), nil
	case HTML:
		var b bytes.Buffer
		if err := html.Render(&b, content); err != nil {
			return "", fmt.Errorf("%w: %w", ErrBroken, err)
		}
		return b.String(), nil
	default:
		b, err := markdown.ConvertNode(content)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrBroken, err)
		}
		return string(bytes.TrimSpace(b)), nil
	}
}
