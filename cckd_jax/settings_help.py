"""One sentence for every setting of a run, for `cckd-jax describe`."""

from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    'method': 'Distillation method: a name of `cckd-jax list methods`.',
    'seed': 'Seed of first weights, the order of samples, dropout and augmentation.',
    'batch_size': 'Samples in a batch, over all devices.',
    'validation_fraction': 'Fraction of the training set that is held out and measured every epoch.',
    'precision': 'Number format in which networks compute: float32 or bfloat16. Parameters and losses are float32.',
    'feature_cache_gib': "Teachers' feature maps up to this size in GiB per device are computed once and kept.",
    'gate': "Gate: a name of `cckd-jax list gates`, none, or package.module:NAME. Empty: the method's own choice.",
    'self_regulate': "Adds the self-regulation gate to the method, or removes it. Empty: the method's own choice.",
    'recheck': 'A dropped sample skips its forward pass until the threshold could have caught up with its margin.',
    'compaction': 'Runs the backward pass on kept samples only. Empty: wherever this is exact and faster.',
    'dataset.name': 'Data set: digits, a name in TensorFlow Datasets, an .npz file, or a folder of images.',
    'dataset.data_dir': 'Folder in which TensorFlow Datasets prepared the data. Empty: its default folder.',
    'dataset.image_shape': 'Height, width and channels of the embedded digits, and of the images of a folder.',
    'dataset.test_fraction': 'Fraction of each class that becomes the test split of a folder without one.',
    'dataset.split_seed': "Seed of a folder's test split and of the order of its examples. Not the run's seed.",
    'dataset.skip_unreadable': 'Leaves out files of a folder that cannot be read as images, instead of an error.',
    'dataset.memory_gib': 'Images of more GiB than this stay on the disk. Empty: half of the free memory.',
    'dataset.examples': 'Number of training examples to keep, from the first. Empty: all.',
    'augmentation.crop': 'Pixels of padding from which each image is cropped at random. The teacher then runs live.',
    'augmentation.flip': 'Flips images left to right at random. The teacher then runs live.',
    'augmentation.per_student': 'Each of several students draws its own augmentation. Otherwise they share one.',
    'teacher.model': 'Network of the teacher: a name of `cckd-jax list networks`, or package.module:factory.',
    'teacher.options': "Fields of the network's class, such as width. Set them in the config file.",
    'teacher.epochs': 'Epochs for which the teacher is trained.',
    'teacher.learning_rate': "Peak of the teacher's learning rate.",
    'teacher.checkpoint': 'Trained network to use: a folder such as RUN/teacher, or a file of PyTorch weights.',
    'teacher.self_regulate': 'Trains the teacher with the gate. Its counts are the significance of the samples.',
    'teacher.alpha': "Growth per epoch of the threshold of the teacher's gate. Empty: 0.01.",
    'teacher.margin_temperature': "Temperature of the teacher's margins in its gate. Empty: 1; 20 keeps nearly all.",
    'teacher.robust': 'Robust training of the teacher: adversarial or ibp. Empty: ordinary training.',
    'teacher.epsilon': "Radius of the teacher's robust training, in pixel values of [0, 1]. Empty: 8/255.",
    'teacher.ramp': "Epochs in which the radius of the teacher's robust training grows to its value.",
    'teacher.logits': 'File of teacher logits that replaces the teacher network.',
    'teacher.onnx': 'ONNX file that replaces the teacher network. It runs once over the data.',
    'teacher.input_layout': 'Layout of the input of teacher.onnx: nhwc or nchw. Empty: as its graph shows.',
    'teacher.input_range': 'Values of a black and a white pixel for teacher.onnx, before mean and std. Empty: (0, 1).',
    'teacher.input_mean': 'Mean that a teacher from ONNX or PyTorch subtracts from the pixels, by channel. Empty: 0.',
    'teacher.input_std': 'Deviation by which it divides the pixels, by channel. Empty: 1.',
    'teacher.check_logits': 'Refuses probabilities, and a file of logits whose accuracy is at chance.',
    'teacher.seed': "Seed of the teacher. Empty: the run's.",
    'teacher.label_noise': "Fraction of the teacher's training labels that are shuffled, for a worse teacher.",
    'num_teachers': 'Number of teachers. The others are like teacher, each with its own seed. 0: none.',
    'teachers': 'Fields of teacher for one of several teachers, by index: teachers.0.model. Empty: as teacher.',
    'student.model': 'Network of the student: a name of `cckd-jax list networks`, or package.module:factory.',
    'student.options': "Fields of the network's class, such as width. Set them in the config file.",
    'student.epochs': 'Epochs for which the student is trained.',
    'student.learning_rate': "Peak of the student's learning rate. Empty: the method's own.",
    'student.seed': "Seed of the student. Empty: the run's.",
    'num_students': 'Number of students that train together. The others are like student, each with its own seed.',
    'students': 'Fields of student for one of several students, by index: students.0.model. Empty: as student.',
    'separate.enabled': 'Trains the baseline, the student without a teacher. Without it there is no transfer attack.',
    'separate.learning_rate': 'Peak learning rate of the baseline, the student without a teacher. Empty: 0.001.',
    'significance.normalization': 'Scale of the weights by significance: epochs, max or mean_one.',
    'significance.file': "Counts per sample, such as RUN/significance.npz, that replace the teacher's.",
    'transfer.name': (
        "System that makes the student's images: zskd, kegnet, dafl, metadata, fskd, samples or noise. "
        'Empty: the training set.'
    ),
    'transfer.scale': 'Factor on the numbers of images and steps of the transfer set, for short runs.',
    'transfer.label': "Label of a transfer sample: nominal, soft or teacher. Empty: the system's first choice.",
    'transfer.reject': "Leaves out transfer samples whose label is not the teacher's class.",
    'transfer.augment': 'Shows transfer samples under random transformations, which their labels do not follow.',
    'transfer.images': "Number of images in the transfer set. Empty: the system's own.",
    'transfer.steps': 'Optimisation steps for each batch of images.',
    'transfer.batch_size': 'Images that are optimised at a time.',
    'transfer.learning_rate': 'Learning rate of the Adam steps that make the images.',
    'transfer.temperature': "Temperature of the teacher's predictions that images are optimised towards.",
    'transfer.space': "Where zskd draws its targets: the teacher's softmax space, or its features.",
    'transfer.betas': 'Scales of the Dirichlet concentrations of zskd, each for an equal share of the images.',
    'transfer.variance': 'Variance of each feature with transfer.space=features.',
    'transfer.decoder_weight': 'Weight of the term of kegnet by which noise must be recovered from its image.',
    'transfer.diversity_weight': 'Weight of the term of kegnet by which images of different noise must differ.',
    'transfer.decoder_layers': 'Hidden layers of the decoder of kegnet after the first.',
    'transfer.width': 'Feature maps of the first convolution of the generator of dafl; 32 suits CPUs.',
    'transfer.noise_units': 'Dimensions of the noise that the generator of dafl takes.',
    'transfer.constants': 'Scales of two terms of dafl: those of its published code, or of the paper.',
    'transfer.activation_weight': (
        'Weight of the term of dafl, and of zskd with space=features, by which images activate the last features.'
    ),
    'transfer.balance_weight': 'Weight of the term of dafl by which all classes are equally frequent.',
    'transfer.num_samples': 'Real training samples of fskd and samples, drawn by seed, equally many of each class.',
    'transfer.layers': 'Layers whose activation records metadata replays: all, or top for the logits alone.',
    'transfer.records': 'File of activation records of the teacher for metadata. Empty: the run records its own.',
    'transfer.distribution': 'Distribution of the pixels of noise: uniform or gaussian.',
    'optimizer.name': 'Optimizer of all networks: a name of `cckd-jax list optimizers`.',
    'optimizer.schedule': 'Learning-rate schedule: constant, cosine or step.',
    'optimizer.weight_decay': 'L2 penalty, added to the gradient before the optimizer.',
    'attack.epsilon': 'Radius of the transferred FGSM attack, in pixel values of [0, 1].',
    'attack.samples': 'Number of training images that the transferred FGSM attack perturbs.',
    'attack.checkpoint': 'Folder of a trained baseline, such as RUN/separate, on which the attack is crafted.',
    'evaluate.extra': 'Evaluators from outside the package, package.module:NAME, separated by commas.',
    'evaluate.attacks': 'Attacks from outside the package, package.module:NAME, separated by commas.',
    'evaluate.transfer_attack': 'Attacks the student with adversarial examples of the baseline (attack.*).',
    'evaluate.calibration': 'Measures calibration of each network, and of the student relative to its teacher.',
    'evaluate.robustness': 'Attacks the networks and certifies them. Takes minutes on a CPU.',
    'evaluate.faithfulness': 'Compares teacher and student under perturbations of the images. Takes minutes on a CPU.',
    'evaluate.networks': 'Networks to attack and certify: teacher, student, and separate, the baseline.',
    'evaluate.epsilons': 'Radii of robustness and faithfulness, in pixel values of [0, 1].',
    'evaluate.samples': 'Number of test images for robustness and faithfulness.',
    'evaluate.steps': 'Steps of each attack that follows gradients.',
    'evaluate.queries': 'Queries of the attack that uses no gradients.',
    'evaluate.temperatures': 'Temperatures of the cross entropy that attacks maximise.',
    'evaluate.bounds': 'Certified bounds: ibp (loose, cheap), crown_ibp, or crown (mostly tighter, very slow).',
    'save_seconds': 'Saves a checkpoint after an epoch if the last one is this old, in seconds. 0: after every epoch.',
    'tracker': 'Also sends the rows of metrics.jsonl to an experiment tracker: wandb or trackio. Empty: to none.',
}

HYPERPARAMETERS: Mapping[str, str] = {
    'temperature': 'Temperature of the softmax in the distillation loss.',
    'confidence_temperature': "Temperature of CCKD's confidence in the teacher. Empty: equal to temperature.",
    'margin_temperature': 'Temperature of the margins that the gate compares with its threshold.',
    'alpha': "Growth per epoch of the gate's threshold.",
    'hard_weight': 'Weight of the cross entropy with the labels.',
    'soft_weight': "Weight of the match with the teachers' logits.",
    'feature_weight': 'Weight of the match with feature maps of the teachers. 0 computes none.',
    'reduction': 'Constant factors of CA-MKD: official (its code) or paper.',
    'weights_gradient': "Whether gradients flow through CA-MKD's weights of feature maps.",
    'largest_weight': 'Upper bound of the weight that AEKD gives one teacher.',
    'longest_rest': 'With recheck, the largest number of epochs in a row in which a sample is skipped.',
    'epsilon': 'Radius around each image, in pixel values of [0, 1]. Usual: 0.1 to 0.3 on MNIST, 8/255 on CIFAR-10.',
    'attack_steps': 'Steps of the search for the adversarial image in training.',
    'adversarial_weight': 'Weight of the adversarial image against the clean one, in ard and rslad.',
    'trust_power': 'Exponent of the trust in the teacher, in iad.',
    'rho': 'Weight of the perturbed images against the clean one, in the faithful methods.',
    'warm_up': 'Epochs before epsilon and rho, or trust_power, start to grow from 0.',
    'ramp': 'Epochs in which epsilon and rho, or trust_power, grow to their values.',
    'gamma': "How strongly a source's confidence decides how much it teaches, among students. 0: all equally.",
    'teacher_prior': 'Weight of the teacher among the sources of a student; other students weigh 1. 0 leaves it out.',
    'include_self': 'Whether a student is among its own teachers, among students.',
    'relative_trust': 'A student learns only from those that are more confident in the label than itself.',
    'bounds': 'Certified bounds of faithful_certified: ibp, or crown_ibp (tighter, many times slower).',
}


def meaning(name: str) -> str:
    """The meaning of a setting by its dotted name; empty if it is unknown.

    >>> meaning('student.epochs')
    'Epochs for which the student is trained.'
    >>> meaning('teachers.1.epochs')
    'Epochs for which the teacher is trained.'
    >>> meaning('students.1.seed')
    "Seed of the student. Empty: the run's."
    """
    (group, _, field) = name.partition('.')
    if group in ('teachers', 'students') and field:
        name = f'{group[:-1]}.{field.partition(".")[2]}'
    return SETTINGS.get(name) or HYPERPARAMETERS.get(name, '')
