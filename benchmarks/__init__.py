"""Speed and accuracy scripts with their stored results; never imported by mm_ray."""
