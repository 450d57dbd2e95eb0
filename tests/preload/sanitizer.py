"""What a program needs around it to run on a preloaded library that is built with AddressSanitizer."""
import os
import re
import subprocess


def environment(tool):
    """With AddressSanitizer in the library, its runtime has to be in all programs, and is not the first that is loaded."""
    library = os.path.join(os.path.dirname(tool), "guestmem-preload.so")
    needs = subprocess.run(["ldd", library], check=True, stdout=subprocess.PIPE).stdout.decode()
    runtime = re.search(r"=> (\S*libasan\S*)", needs)
    if not runtime:
        return dict(os.environ)
    return {**os.environ, "LD_PRELOAD": runtime.group(1), "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
