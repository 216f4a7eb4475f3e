package mcp

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Bounds of what an agent has in an answer.
const (
	maxContents = 200     // content blocks
	maxTexts    = 1 << 20 // bytes of text, of all together
	maxName     = 256
	maxMessage  = 4 << 10
	maxPath     = 4 << 10
)

// schemaVersion is that of the tools' arguments and answers.
const schemaVersion = 1

// Keys of _meta.
const (
	metaVersion = "k2sandbox/schema_version"
	metaSandbox = "k2sandbox/sandbox_id"
	metaAnswer  = "k2sandbox/answer" // structuredContent, where that is left out
)

// head is what all structured answers begin with.
type head struct {
	SandboxID string `json:"sandbox_id"`
	Note      string `json:"note,omitempty"`
}

// structured returns what programs read of an answer.
func structured(h head, answer *api.MCPAnswer) any {
	switch {
	case answer.Run != nil:
		return struct {
			head
			*api.MCPRun
		}{h, answer.Run}
	case answer.File != nil:
		return struct {
			head
			*api.MCPFile
		}{h, answer.File}
	case answer.Written != nil:
		return struct {
			head
			*api.MCPWritten
		}{h, answer.Written}
	case answer.Files != nil:
		return struct {
			head
			*api.MCPListing
		}{h, answer.Files}
	}
	return h
}

// result makes of an agent's answer what the client gets. Many clients, Claude Code and VS Code among them, show a model
// structuredContent in place of the other content: so it has all that the text has, and is left out where there are images.
func result(at place, answer *api.MCPAnswer) (*sdk.CallToolResult, error) {
	id := at.box.ID()
	r := &sdk.CallToolResult{Meta: sdk.Meta{metaVersion: schemaVersion, metaSandbox: id}}
	if at.note != "" {
		r.Content = append(r.Content, &sdk.TextContent{Text: "note: " + at.note})
	}
	b := builder{sandbox: id}
	for _, c := range answer.Content {
		block := b.content(c)
		if block == nil {
			return nil, errNonsense
		}
		r.Content = append(r.Content, block)
	}
	s := structured(head{id, at.note}, answer)
	if b.images > 0 {
		r.Meta[metaAnswer] = s
	} else {
		r.StructuredContent = s
	}
	return r, nil
}

// builder makes content blocks, as long as they are few enough.
type builder struct {
	sandbox               string
	blocks, images, texts int
}

// content returns a block; nil where it is none that an agent of ours makes.
func (b *builder) content(c api.MCPContent) sdk.Content {
	if b.blocks++; b.blocks > maxContents {
		return nil
	}
	switch c.Type {
	case api.TextContent:
		if b.texts += len(c.Text); b.texts <= maxTexts {
			return &sdk.TextContent{Text: c.Text}
		}
	case api.ImageContent:
		if b.images++; b.images <= api.MaxMCPImages && isImage(c) {
			return &sdk.ImageContent{MIMEType: c.MIME, Data: c.Data}
		}
	case api.LinkContent:
		return b.link(c)
	}
	return nil
}

var signatures = map[string]string{"image/png": "\x89PNG\r\n\x1a\n", "image/jpeg": "\xff\xd8\xff"}

func isImage(c api.MCPContent) bool {
	signature, known := signatures[c.MIME]
	return known && bytes.HasPrefix(c.Data, []byte(signature)) && base64.StdEncoding.EncodedLen(len(c.Data)) <= api.MaxMCPImage
}

var (
	validRunID = lazy.Regexp(`^[A-Za-z0-9_-]{1,64}$`)
	validMIME  = lazy.Regexp(`^[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}$`)
)

func (b *builder) link(c api.MCPContent) sdk.Content {
	if !validMIME().MatchString(c.MIME) || c.Size < 0 || plain(c.Name, maxName) != c.Name || plain(c.Path, maxPath) != c.Path {
		return nil
	}
	link := &sdk.ResourceLink{Name: c.Name, MIMEType: c.MIME, Size: &c.Size, Description: c.Path}
	switch {
	case c.RunID != "" && validRunID().MatchString(c.RunID) && c.Output > 0:
		_, ending, _ := strings.Cut(c.Name, ".")
		if !validRunID().MatchString(ending) {
			ending = "bin"
		}
		link.URI = fmt.Sprintf("k2://%s/runs/%s/outputs/%s.%s", b.sandbox, c.RunID, strconv.Itoa(c.Output), ending)
	case c.RunID == "" && strings.HasPrefix(c.Path, "/"):
		link.URI = fileURI(b.sandbox, c.Path)
	default:
		return nil
	}
	return link
}

// readable drops what terminals act on.
func readable(r rune) rune {
	if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
		return -1
	}
	return r
}

// plain returns a text of one line, without what terminals act on, and no longer than some bytes.
func plain(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}
