"""`python -m reproductions.mnist` with networks that train fast.

A spawned worker imports this module again, so its networks are narrow, too.
"""

from reproductions.mnist import __main__ as mnist
from reproductions.mnist import networks
from reproductions.mnist import study

networks.TEACHER_WIDTH = 300
study.STUDENT_WIDTH = 150

if __name__ == "__main__":
    mnist.main()
