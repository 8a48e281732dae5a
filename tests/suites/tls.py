"""testssl.sh and sslscan, and cases of our own with OpenSSL."""

import contextlib
import http.client
import json
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

from rig import SOON, Counts, Proxy, program


def testssl(proxy: Proxy, folder: pathlib.Path) -> Counts:
    """Its findings; what it calls low or worse is a failure, but for what is so because the authority is our own."""
    counts, file = Counts(), folder / f"testssl-{proxy.name}.json"
    file.unlink(missing_ok=True)
    command = [program("testssl"), "--quiet", "--color", "0", "--warnings", "off", "--ip", "one", "-p", "-s", "-f", "-S", "-U", "-g"]
    subprocess.run([*command, "--jsonfile", str(file), f"127.0.0.1:{proxy.ports['tls']}"], capture_output=True, timeout=580)
    of_the_authority = re.compile(r"cert_(chain_of_trust|revocation|trust|validityPeriod|notAfter|caIssuers|crl|ocsp)|OCSP|DNS_CAA|certificate_transparency", re.I)
    for finding in json.loads(file.read_text()):
        bad = finding["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL") and not of_the_authority.search(finding["id"])
        counts.check(finding["id"], f"{finding['severity']}: {finding['finding'][:150]}" if bad else None)
    return counts


def sslscan(proxy: Proxy, folder: pathlib.Path) -> Counts:
    counts = Counts()
    command = [program("sslscan"), "--no-colour", f"127.0.0.1:{proxy.ports['tls']}"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout
    (folder / f"sslscan-{proxy.name}.txt").write_text(text)
    for version in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
        counts.check(f"no {version}", None if re.search(rf"^{re.escape(version)}\s+disabled", text, re.M) else "enabled")
    for version in ("TLSv1.2", "TLSv1.3"):
        counts.check(version, None if re.search(rf"^{re.escape(version)}\s+enabled", text, re.M) else "disabled")
    ciphers = re.findall(r"^(?:Preferred|Accepted)\s+(\S+)\s+(\d+) bits\s+(\S+)", text, re.M)
    weak = [name for version, _, name in ciphers if version == "TLSv1.2" and not (name.startswith("ECDHE-") and ("GCM" in name or "POLY1305" in name))]
    counts.check("only ciphers with forward secrecy and authenticated encryption", f"{len(weak)} of {len(ciphers)} have not" if weak or not ciphers else None)
    counts.check("no heartbleed", None if "not vulnerable to heartbleed" in text else "not clear")
    counts.check("no renegotiation", None if "Session renegotiation not supported" in text else "supported")
    return counts


class Cases:
    def __init__(self, proxy: Proxy):
        self.proxy, self.counts, self.ca = proxy, Counts(), str(proxy.folder / "ca.pem")

    def context(self, alpn: tuple[str, ...] = (), client: str = "", version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if client:
            context.load_cert_chain(self.proxy.folder / f"{client}.pem", self.proxy.folder / f"{client}.key")
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def connect(self, kind: str = "tls", name: str = "localhost", **options) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.proxy.ports[kind]), timeout=SOON)
        try:
            return self.context(**options).wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise

    def ask(self, secured: ssl.SSLSocket, path: str = "/word") -> str:
        secured.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = http.client.HTTPResponse(secured)
        answer.begin()
        return f"{answer.status} {answer.read().decode()}"

    def s_client(self, *words: str, said: bytes = b"", kind: str = "tls") -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.proxy.ports[kind]}", "-servername", "localhost", *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(said)
            process.stdin.flush()
        # A moment for the answer, then the end of what is said ends the connection.
        time.sleep(1.5 if said else 0.5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=10)[0].decode("latin-1")
        process.kill()
        return process.communicate()[0].decode("latin-1")

    def case(self, name: str, work) -> None:
        try:
            problem = work()
        except Exception as error:  # whatever it is, it is the case's result
            problem = repr(error)
        self.counts.check(name, problem)

    # What each of them returns is what is wrong.

    def speaks(self, version: ssl.TLSVersion):
        def work():
            with self.connect(version=version) as secured:
                answer = self.ask(secured)
                return None if answer.startswith("200") else answer

        return work

    def refuses(self, flag: str):
        def work():
            output = self.s_client(flag, "-cipher", "ALL:@SECLEVEL=0")
            return None if "Cipher is (NONE)" in output or "alert protocol version" in output else output[-200:]

        return work

    def agrees(self, offered: tuple[str, ...], wanted: str | None):
        def work():
            with self.connect(alpn=offered) as secured:
                got = secured.selected_alpn_protocol()
                return None if got == wanted else f"{got}, not {wanted}"

        return work

    def no_common_protocol(self):
        try:
            with self.connect(alpn=("spdy/9",)) as secured:
                return f"goes on with {secured.selected_alpn_protocol()}"
        except ssl.SSLError as error:
            return None if "no application protocol" in str(error).lower().replace("_", " ") else repr(error)

    def keeps_its_word(self):
        """Who agreed on HTTP/2 is not served HTTP/1.1."""
        with self.connect(alpn=("h2",)) as secured:
            secured.sendall(b"GET /word HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = b""
            with contextlib.suppress(OSError):
                while piece := secured.recv(65536):
                    got += piece
            return f"answered {got[:15]}" if got.startswith(b"HTTP/1.1 2") else None

    def shows(self, name: str, wanted: str):
        def work():
            context = self.context()
            context.check_hostname = False
            with socket.create_connection(("127.0.0.1", self.proxy.ports["tls"]), timeout=SOON) as plain:
                with context.wrap_socket(plain, server_hostname=name) as secured:
                    names = [value for _, value in secured.getpeercert()["subjectAltName"]]
            return None if wanted in names else f"{names}"

        return work

    def resumes(self, version: str):
        def work():
            with tempfile.NamedTemporaryFile() as session:
                said = b"GET /word HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                self.s_client(version, "-ign_eof", "-sess_out", session.name, said=said)
                output = self.s_client(version, "-ign_eof", "-sess_in", session.name, said=said)
            return None if "Reused, TLSv1" in output and "200 OK" in output else output[-300:]

        return work

    def renegotiates_not(self):
        output = self.s_client("-tls1_2", said=b"R\n")
        return None if re.search("no renegotiation|unexpected message|unexpected eof|handshake failure|errno=", output, re.I) else output[-300:]

    def has_no(self, *words: str):
        def work():
            output = self.s_client("-tls1_3", "-ign_eof", said=b"GET /word HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return None if all(word in output for word in words) else output[-300:]

        return work

    def client(self, name: str, good: bool):
        def work():
            try:
                with self.connect("mutual", client=name) as secured:
                    answer = self.ask(secured)
            except (ssl.SSLError, OSError, http.client.HTTPException) as error:
                return repr(error) if good else None
            return None if answer.startswith("200") == good else answer

        return work

    def survives(self, octets: bytes):
        def work():
            sockets = []
            for _ in range(50):
                one = socket.create_connection(("127.0.0.1", self.proxy.ports["tls"]), timeout=SOON)
                with contextlib.suppress(OSError):
                    one.sendall(octets)
                sockets.append(one)
            served = self.speaks(ssl.TLSVersion.TLSv1_2)()
            for one in sockets:
                one.close()
            return served

        return work

    def silent_is_closed(self):
        """A greeting that never comes to its end is given up, and not only after minutes."""
        with socket.create_connection(("127.0.0.1", self.proxy.ports["tls"]), timeout=75) as one:
            one.sendall(HELLO[:40])
            try:
                while one.recv(65536):
                    pass
            except TimeoutError:
                return "still open after 75 s"
            except OSError:
                pass

    def cut(self):
        """No close_notify, in the middle of a body."""
        secured = self.connect()
        secured.sendall(b"GET /download?size=30000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        secured.recv(1000)
        socket.socket(fileno=secured.detach()).close()
        return self.speaks(ssl.TLSVersion.TLSv1_2)()

    def renewed(self):
        def serial() -> str:
            with self.connect() as secured:
                return secured.getpeercert()["serialNumber"]

        folder, before = self.proxy.folder, serial()
        with self.connect() as opened:
            first = self.ask(opened)
            kept = [shutil.copy(folder / f"server.{kind}", folder / f"kept.{kind}") for kind in ("pem", "key")]
            try:
                for kind in ("pem", "key"):
                    shutil.copy(folder / f"renewed.{kind}", folder / f"server.{kind}")
                self.proxy.reload()
                deadline = time.monotonic() + SOON
                while serial() == before:
                    if time.monotonic() > deadline:
                        return "the new certificate is not shown"
                    time.sleep(0.2)
                second = self.ask(opened)
            finally:
                for kind in ("pem", "key"):
                    shutil.move(folder / f"kept.{kind}", folder / f"server.{kind}")
                self.proxy.reload()
            deadline = time.monotonic() + SOON
            while serial() != before and time.monotonic() < deadline:
                time.sleep(0.2)
            return None if (first[:3], second[:3]) == ("200", "200") else f"{first} {second}"

    def spoilt(self):
        """Files that are no certificate leave what is in force."""
        file = self.proxy.folder / "server.pem"
        kept = file.read_bytes()
        file.write_bytes(kept[: len(kept) // 2])
        self.proxy.reload()
        try:
            for _ in range(15):
                time.sleep(0.2)
                if problem := self.speaks(ssl.TLSVersion.TLSv1_2)():
                    return problem
        finally:
            file.write_bytes(kept)
            self.proxy.reload()


def hello() -> bytes:
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


HELLO = hello()


def run(proxy: Proxy) -> Counts:
    cases = Cases(proxy)
    named = {
        "TLS 1.3": cases.speaks(ssl.TLSVersion.TLSv1_3),
        "TLS 1.2": cases.speaks(ssl.TLSVersion.TLSv1_2),
        "no TLS 1.1": cases.refuses("-tls1_1"),
        "no TLS 1.0": cases.refuses("-tls1"),
        "ALPN: HTTP/2 before HTTP/1.1": cases.agrees(("h2", "http/1.1"), "h2"),
        "ALPN: HTTP/2 also when named last": cases.agrees(("http/1.1", "h2"), "h2"),
        "ALPN: HTTP/1.1 alone": cases.agrees(("http/1.1",), "http/1.1"),
        "ALPN: none": cases.agrees((), None),
        "ALPN: nothing in common is refused (RFC 7301, 3.2)": cases.no_common_protocol,
        "ALPN: who agreed on HTTP/2 is not served HTTP/1.1 (RFC 9113, 3.2)": cases.keeps_its_word,
        "SNI: the first": cases.shows("localhost", "localhost"),
        "SNI: another": cases.shows("other.example", "other.example"),
        "SNI: unknown gets the first": cases.shows("unknown.example", "localhost"),
        "resumption in TLS 1.2": cases.resumes("-tls1_2"),
        "resumption in TLS 1.3": cases.resumes("-tls1_3"),
        "no renegotiation": cases.renegotiates_not,
        "no compression": cases.has_no("Compression: NONE"),
        "no early data": cases.has_no("Max Early Data: 0"),
        "client certificate: good": cases.client("client", True),
        "client certificate: none": cases.client("", False),
        "client certificate: of a stranger": cases.client("strange", False),
        "client certificate: expired": cases.client("expired", False),
        "survives half a greeting": cases.survives(HELLO[:60]),
        "survives a greeting and silence": cases.survives(HELLO),
        "survives HTTP without TLS": cases.survives(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "survives noise": cases.survives(bytes(range(256)) * 8),
        "survives a record of the greatest length": cases.survives(b"\x16\x03\x01\xff\xff" + b"\x01" * 65535),
        "survives a cut in the middle of a body": cases.cut,
        "gives up half a greeting": cases.silent_is_closed,
        "a renewed certificate is shown and open connections go on": cases.renewed,
        "a spoilt file leaves what is in force": cases.spoilt,
    }
    for name, work in named.items():
        if proxy.name == "haproxy" and name.startswith(("a renewed", "a spoilt")):
            cases.counts.skipped[name] = "without its master process it reads files once"
            continue
        cases.case(name, work)
    cases.counts.check("at rest", "; ".join(proxy.unrest(within=60)) or None)
    return cases.counts
