package python

import (
	"context"
	"os"
	"strings"
)

// uvNames are the variables of uv that say what a setting of pip says.
var uvNames = []struct{ pip, uv, separator string }{
	{"index-url", "UV_DEFAULT_INDEX", " "},
	{"extra-index-url", "UV_INDEX", " "},
	{"find-links", "UV_FIND_LINKS", ","},
	{"trusted-host", "UV_INSECURE_HOST", " "},
	{"cert", "SSL_CERT_FILE", ""},
	{"proxy", "ALL_PROXY", ""},
}

// pipSettings returns, as an environment for uv, where pip is configured to find packages:
// uv does not read pip's files, and behind a company's mirror or proxy these are all there is.
// What the user set for uv itself stays.
func (i *installer) pipSettings(ctx context.Context) []string {
	settings := map[string]string{}
	line := func(line string) {
		name, value, _ := strings.Cut(line, "=")
		value = strings.ReplaceAll(strings.Trim(value, `'"`), `\n`, " ")
		settings[name[strings.LastIndex(name, ".")+1:]] = value
	}
	if i.run(ctx, line, nil, i.interpreter(), "-I", "-m", "pip", "config", "list") != nil {
		return nil
	}
	var env []string
	for _, name := range uvNames {
		values := strings.Fields(settings[name.pip])
		if _, set := os.LookupEnv(name.uv); len(values) > 0 && !set {
			env = append(env, name.uv+"="+strings.Join(values, name.separator))
		}
	}
	return env
}
