// The plugins of the benchmark for go-pdk. The name of the program tells which one it is.
package main

import (
	"log"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/Kong/go-pdk"
	"github.com/Kong/go-pdk/server"
)

// Config is a plugin without fields.
type Config struct{}

var access = map[string]func(*pdk.PDK) error{
	"0r0w": func(*pdk.PDK) error { return nil },
	"1r1w": func(kong *pdk.PDK) error { return readAndSet(kong, 1) },
	"5r5w": func(kong *pdk.PDK) error { return readAndSet(kong, 5) },
	"exit": func(kong *pdk.PDK) error {
		headers := map[string][]string{"x-denied-by": {"benchmark"}, "content-type": {"application/json"}}
		kong.Response.Exit(403, []byte(`{"message": "no access", "code": 1234}`), headers)
		return nil
	},
	"body64k": func(kong *pdk.PDK) error {
		body, err := kong.Request.GetRawBody()
		if err != nil {
			return err
		}
		return kong.Response.SetHeader("x-length", strconv.Itoa(len(body)))
	},
	"sleep100ms": func(*pdk.PDK) error {
		time.Sleep(100 * time.Millisecond)
		return nil
	},
}

var plugin = filepath.Base(os.Args[0])

func readAndSet(kong *pdk.PDK, times int) error {
	for i := 0; i < times; i++ {
		host, err := kong.Request.GetHeader("host")
		if err != nil {
			return err
		}
		if err = kong.Response.SetHeader("x-host", host); err != nil {
			return err
		}
	}
	return nil
}

// Access is the phase that is measured.
func (Config) Access(kong *pdk.PDK) {
	if err := access[plugin](kong); err != nil {
		log.Fatal(err)
	}
}

func main() {
	if access[plugin] == nil {
		log.Fatalf("there is no plugin %s", plugin)
	}
	if err := server.StartServer(func() interface{} { return &Config{} }, "1.0.0", 10); err != nil {
		log.Fatal(err)
	}
}
